#!/bin/sh
# The command line of the installed gateway: the service's configuration, and its user where root asks, so that no file
# of the gateway ever belongs to root.
set -eu
dir=/usr/lib/sluice-gateway
: "${SLUICE_GATEWAY_CONFIG:=/etc/sluice/gateway.yaml}"
export SLUICE_GATEWAY_CONFIG
set -- "$dir/sluice-gateway-node" "$dir/app/main.js" "$@"
if [ "$(id -u)" = 0 ]; then
  set -- setpriv --reuid sluice-gateway --regid sluice-gateway --init-groups -- "$@"
fi
exec "$@"
