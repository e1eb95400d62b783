#!/bin/bash
# shellcheck disable=SC2086 # options, separated by blanks
exec java ${KAFKA_HEAP_OPTS:--Xmx512m} -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp '/opt/kafka/libs/*' org.apache.zookeeper.server.quorum.QuorumPeerMain "$@"
