#!/usr/bin/env bash
# Makes a Python environment with the peers of compare.py, about 6 GB: setup.sh FOLDER
#
# The folder belongs outside the repository. `torch.compile` also needs a C++ compiler and Python's headers.
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: setup.sh FOLDER" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$1/bin/python" ] || python3 -m venv "$1"
"$1/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
"$1/bin/python" -c 'import torch, diffusers, transformers, peft, openvino'
command -v c++ >/dev/null || echo "setup.sh: note: no C++ compiler, which torch.compile needs" >&2
echo "ready: $1/bin/python"
