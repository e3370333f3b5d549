/**
 * Both packages in a booted Debian: systemd starts the units with their sandbox, in a container of systemd-nspawn that
 * shares this machine's network. What only a running service manager shows: system call filters, readiness, restart.
 */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { freePort } from '../process-tools.ts';
import { execute, type TargetRoot } from './target-root.ts';

const BOOT_SECONDS_MAX = 120;

/** Asks the hub by SQL, until all ten readings are there. */
function question(hub: number): string {
  return `
const ask = async () => {
  const body = JSON.stringify({ sql: "select count(*)::INT as n from readings where device = 'pump'" });
  const answer = await fetch('http://127.0.0.1:${hub}/v1/sql', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  const { rows, detail } = await answer.json();
  return rows === undefined ? detail : JSON.stringify(rows);
};
let answer = await ask();
for (let tries = 0; tries < 60 && answer !== '[{"n":10}]'; tries++) {
  await new Promise((resolve) => setTimeout(resolve, 500));
  answer = await ask();
}
console.log('sql', answer);
`;
}

/** Runs in the container once it is up; each line of its log is an answer. */
function proof(mqtt: number, hub: number): string {
  return `#!/bin/bash
exec > /root/proof.log 2>&1
active() { for i in $(seq 120); do systemctl is-active -q sluice-gateway && systemctl is-active -q sluice-hub && return; sleep 0.5; done; journalctl --no-pager -n 50; }
active
sluice-gateway enroll --hub http://127.0.0.1:${hub} --token "$(sluice-hub token create --enroll site-1 --quiet)"
active
seq 10 | mosquitto_pub -h 127.0.0.1 -p ${mqtt} -q 1 -t devices/pump/n -l && echo published
/usr/lib/sluice-hub/sluice-hub-node /root/ask.mjs
sluice-gateway doctor > /dev/null && echo doctor satisfied
kill -9 "$(systemctl show -p MainPID --value sluice-gateway)"
sleep 1; active
grep Seccomp: "/proc/$(systemctl show -p MainPID --value sluice-gateway)/status"
systemctl show sluice-gateway -p NRestarts -p ActiveState -p WatchdogUSec
`;
}

const SERVICE = `[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/root/proof.sh
ExecStopPost=/bin/systemctl poweroff --no-block
[Install]
WantedBy=multi-user.target
`;

export async function boot(root: TargetRoot, debs: readonly string[]): Promise<string> {
  await root.apt('install', 'systemd-sysv', 'dbus');
  for (const deb of debs) await execute('cp', [deb, root.path('/root/')]);
  await root.apt('install', ...debs.map((deb) => `/root/${deb.slice(deb.lastIndexOf('/') + 1)}`));
  const [mqtt, http, hub] = [await freePort(), await freePort(), await freePort()];
  const gatewayYaml = root.read('/etc/sluice/gateway.yaml');
  root.write(
    '/etc/sluice/gateway.yaml',
    gatewayYaml.replace('port: 1883', `port: ${mqtt}\n  wsPort: null`).replace('port: 8081', `port: ${http}`),
  );
  root.write('/etc/sluice/hub.yaml', root.read('/etc/sluice/hub.yaml').replace('port: 8080', `port: ${hub}`));
  root.write('/root/proof.sh', proof(mqtt, hub));
  chmodSync(root.path('/root/proof.sh'), 0o755);
  root.write('/root/ask.mjs', question(hub));
  root.write('/etc/systemd/system/proof.service', SERVICE);
  await root.run('systemctl', 'enable', 'proof.service');
  await root.unmount();
  await execute('timeout', [
    '-k',
    '10',
    `${BOOT_SECONDS_MAX}`,
    'systemd-nspawn',
    '-q',
    '-D',
    root.directory,
    '--register=no',
    '--keep-unit',
    '-b',
  ]);
  assert.ok(root.has('/root/proof.log'), 'it did not come up to multi-user.target');
  const log = root.read('/root/proof.log');
  for (const wanted of [
    /^enrolled as site-1/m,
    /^published$/m,
    /^sql \[\{"n":10\}\]$/m,
    /^doctor satisfied$/m,
    /^Seccomp:\s+2$/m,
    /^NRestarts=1$/m,
    /^ActiveState=active$/m,
  ])
    assert.match(log, wanted);
  return 'units active with their sandbox, readings and SQL through them, restarted after kill -9';
}
