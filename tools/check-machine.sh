#!/bin/sh
# One clear line if this machine cannot hold the project; silent otherwise.
python=${1:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "ganatomy: $python not found; on Debian: sudo apt install git make python3 python3-venv" >&2
    exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "ganatomy: Python 3.11 or newer is needed, this is $("$python" --version 2>&1)" >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip' >/dev/null 2>&1; then
    echo "ganatomy: this Python has no ensurepip; on Debian: sudo apt install python3-venv" >&2
    exit 2
fi
free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
if [ "$free" -lt 8 ]; then
    echo "ganatomy: 8 GB of free disk are needed here (torch alone unpacks to 5), $free GB are free" >&2
    exit 2
fi
