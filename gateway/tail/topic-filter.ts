/** Topic filters as subscribers write them: levels with + and a # at the end [MQTT-4.7.1]. */

/** Why the text is not a filter; null: it is one. */
export function filterFault(filter: string): string | null {
  if (filter === '' || filter.length > 1_024) return 'a topic filter has 1 to 1,024 characters';
  const levels = filter.split('/');
  const hash = levels.findIndex((level) => level.includes('#'));
  if (hash >= 0 && (levels[hash] !== '#' || hash !== levels.length - 1)) return '# stands alone, as the last level';
  return levels.some((level) => level.includes('+') && level !== '+') ? '+ stands alone in its level' : null;
}

/** A function that says whether a topic matches; the filter must have no fault. */
export function topicMatcher(filter: string): (topic: string) => boolean {
  if (filter === '#') return () => true;
  const wanted = filter.split('/');
  return (topic) => {
    const levels = topic.split('/');
    for (let index = 0; index < wanted.length; index++) {
      if (wanted[index] === '#') return true; // the parent level too [MQTT-4.7.1-2]
      if (index >= levels.length || (wanted[index] !== '+' && wanted[index] !== levels[index])) return false;
    }
    return levels.length === wanted.length;
  };
}
