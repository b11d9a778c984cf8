#!/bin/sh
# Writes jars.lock anew from pom.xml: the one place where Maven (and a JDK) is needed. Usage: sh deploy/kafka/lock.sh
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mvn -q -B -f pom.xml dependency:copy-dependencies -DincludeScope=runtime -Dmdep.useRepositoryLayout=true -DoutputDirectory="$work/jars"
(
    sed -n '/^#/p' jars.lock
    cd "$work/jars"  # in this subshell only
    find . -name '*.jar' | LC_ALL=C sort | while read -r jar; do
        # ./org/apache/kafka/kafka-raft/4.1.0/kafka-raft-4.1.0.jar -> org.apache.kafka:kafka-raft:4.1.0
        version_dir=$(dirname "$jar")
        artifact_dir=$(dirname "$version_dir")
        group=$(dirname "$artifact_dir" | sed 's|^\./||; s|/|.|g')
        printf '%s:%s:%s %s\n' "$group" "$(basename "$artifact_dir")" "$(basename "$version_dir")" "$(sha256sum "$jar" | cut -d' ' -f1)"
    done
) > "$work/jars.lock"
cp "$work/jars.lock" jars.lock
