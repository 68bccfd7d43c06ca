#!/bin/sh
# Compile the Java sources of this folder into cocabench.jar. Needs a JDK; users get the jar.
# CORENLP is a folder with stanford-corenlp-3.6.0.jar, as `cocabench setup spice` makes it.
set -eu
cd "$(dirname "$0")"
: "${CORENLP:?set CORENLP to the folder with stanford-corenlp-3.6.0.jar}"
captions=$("${PYTHON:-python3}" -c 'import pycocoevalcap; print(list(pycocoevalcap.__path__)[0])')
classes=$(mktemp -d)
trap 'rm -rf "$classes"' EXIT
javac --release 11 -d "$classes" \
    -cp "$captions/meteor/meteor-1.5.jar:$captions/spice/spice-1.0.jar:$CORENLP/stanford-corenlp-3.6.0.jar" \
    src/cocabench/*.java src/edu/anu/spice/*.java
jar --create --file cocabench.jar --date 2025-01-01T00:00:00Z -C "$classes" .
