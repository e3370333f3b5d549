/** Which sessions a topic is for: filters as a tree of their levels, so that a topic costs its depth and not the number of filters. */

interface Node {
  readonly children: Map<string, Node>;
  /** Client → QoS of a filter that ends here. */
  readonly clients: Map<string, number>;
}

function emptyNode(): Node {
  return { children: new Map(), clients: new Map() };
}

export interface Match {
  readonly clientId: string;
  readonly qos: number;
}

/** [MQTT-4.7.2-1]: wildcards at the front do not match what is the broker's own. */
function isReserved(topic: string): boolean {
  return topic.startsWith('$');
}

/** Does one filter match a topic? Both as MQTT has them, validated. */
export function filterMatches(filter: string, topic: string): boolean {
  if (isReserved(topic) && (filter.startsWith('#') || filter.startsWith('+'))) return false;
  const wanted = filter.split('/');
  const levels = topic.split('/');
  for (let index = 0; index < wanted.length; index++) {
    if (wanted[index] === '#') return true;
    if (index >= levels.length || (wanted[index] !== '+' && wanted[index] !== levels[index])) return false;
  }
  return wanted.length === levels.length;
}

export class SubscriptionTree {
  readonly #root = emptyNode();

  set(filter: string, clientId: string, qos: number): void {
    let node = this.#root;
    for (const level of filter.split('/')) {
      let child = node.children.get(level);
      if (child === undefined) {
        child = emptyNode();
        node.children.set(level, child);
      }
      node = child;
    }
    node.clients.set(clientId, qos);
  }

  delete(filter: string, clientId: string): void {
    const path: [Node, string][] = [];
    let node = this.#root;
    for (const level of filter.split('/')) {
      const child = node.children.get(level);
      if (child === undefined) return;
      path.push([node, level]);
      node = child;
    }
    node.clients.delete(clientId);
    for (let at = path.length - 1; at >= 0 && node.clients.size === 0 && node.children.size === 0; at--) {
      const [parent, level] = path[at];
      parent.children.delete(level);
      node = parent;
    }
  }

  /** Each client once, with the highest QoS of its filters that match. */
  match(topic: string): Match[] {
    const found = new Map<string, number>();
    const take = (node: Node | undefined): void => {
      for (const [clientId, qos] of node?.clients ?? []) found.set(clientId, Math.max(qos, found.get(clientId) ?? 0));
    };
    const levels = topic.split('/');
    const walk = (node: Node, index: number): void => {
      const wildcards = index > 0 || !isReserved(topic);
      // `a/#` matches `a` too [MQTT-4.7.1-2].
      if (wildcards) take(node.children.get('#'));
      if (index === levels.length) return take(node);
      const child = node.children.get(levels[index]);
      if (child !== undefined) walk(child, index + 1);
      const any = wildcards ? node.children.get('+') : undefined;
      if (any !== undefined) walk(any, index + 1);
    };
    walk(this.#root, 0);
    return [...found].map(([clientId, qos]) => ({ clientId, qos }));
  }
}
