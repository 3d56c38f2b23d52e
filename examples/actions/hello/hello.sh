#!/bin/sh
# Greets, and leaves the greeting in /out.
set -eu
echo "Hello, ${NAME:-world} 🚀" | tee /out/hello.txt
