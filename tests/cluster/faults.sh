# Sourced by e2e: the steps that take something away from a running cluster of three nodes. Each sends with the official
# client, says what must have come in the end, and holds the conditions that people read meanwhile against golden/.

paced=50                # messages a second while something is away
outage=120              # seconds without an API server
small_volume=512Mi      # a volume that is filled, and what it grows to
larger_volume=1Gi

### conditions as goldens

# golden NAME KIND/OBJECT: the object's conditions are those of golden/NAME; WRITE_GOLDENS=1 writes the file
golden() {
	local file=$HERE/golden/$1
	K get "$2" -o json | jq -r '.status.conditions|sort_by(.type)[]|"\(.type)=\(.status) \(.reason)\n    \(.message)"' |
		sed -E 's/[0-9a-f]{32}/DISK/g; s/[0-9-]{10}T[0-9:]{8}Z/TIME/g; s/(is not served: ).*/\1WHY/' >"$log/$1.conditions"
	[ -z "${WRITE_GOLDENS:-}" ] || cp "$log/$1.conditions" "$file"
	diff -u "$file" "$log/$1.conditions"
}

# reason KIND/OBJECT CONDITION REASON: the condition has this reason now
reason() { shows "$1" ".conditions|any(.type==\"$2\" and .reason==\"$3\")"; }

### topics of a step, and what was sent to them

# declared TOPIC [CLUSTER]: a topic and the group TOPIC-readers that has subscribed to it, both Ready
declared() {
	local topic=$1 cluster=${2:-default}
	K apply -f - <<Y
apiVersion: $group/v1alpha1
kind: Topic
metadata: {name: $topic}
spec: {messageType: NORMAL, queues: 6, clusterRef: {name: $cluster}}
---
apiVersion: $group/v1alpha1
kind: ConsumerGroup
metadata: {name: $topic-readers}
spec: {clusterRef: {name: $cluster}, subscriptions: [{topic: $topic, startFrom: Earliest}]}
Y
	K wait --for=condition=Ready "topic/$topic" "consumergroup/$topic-readers" --timeout=60s
}

# sent TOPIC COUNT: so many messages are sent and acknowledged
sent() {
	client "$1-sender" send --topic "$1" --prefix "$1" --count "$2"
	ended_well 120 "$1-sender"
	[ "$(bodies acknowledged "$1-sender" | wc -l)" = "$2" ]
}

# all_come TOPIC COUNT: the group TOPIC-readers gets every message that TOPIC-sender was promised, and no others
all_come() {
	client "$1-reader" receive --topic "$1" --group "$1-readers" --expect "$2" --timeout 3m
	ended_well 200 "$1-reader"
	exactly_once "$1-sender" "$1-reader"
}

### recreate, restore

cluster_serves() { K wait --for=condition=Ready "brokercluster.$group/default" --timeout=1s; }

# one StatefulSet, and the record of shards, are deleted while the cluster lives
parts_deleted() {
	local before
	declared parts
	sent parts 300
	before=$(K get brokercluster/default -o json | jq -c '[.status.shards[]|{id,leader}]')
	K delete configmap/default-cluster-map
	wait_for 30 "the record of shards is written again" K get configmap/default-cluster-map
	K delete statefulset/default-broker-1 --cascade=foreground --timeout=60s
	wait_for 90 "the StatefulSet is made again" broker_is_ready 1
	wait_for 60 "the cluster is Ready" cluster_serves
	[ "$(K get brokercluster/default -o json | jq -c '[.status.shards[]|{id,leader}]')" = "$before" ]
	all_come parts 300
}

# what Git holds goes, all of it, and is applied again
recreated_from_git() {
	declared recreate
	sent recreate 300
	helm uninstall pinnace -n "$namespace" --wait --timeout 120s
	K delete topic/recreate consumergroup/recreate-readers --timeout=60s
	wait_for 90 "no broker is left" no_broker
	install_brokers
	declared recreate
	all_come recreate 300
}
no_broker() { [ -z "$(K get pods -l pinnace.dev/broker -o name)" ]; }

# a backup holds every object but pods and volumes, with the uids of owners that are gone when it is restored
restored_from_a_backup() {
	local kinds=brokerclusters.$group,topics.$group,consumergroups.$group,statefulsets,services,configmaps,poddisruptionbudgets,networkpolicies
	declared backup
	sent backup 300
	K get "$kinds" -l pinnace.dev/cluster=default -o json >"$log/backup-parts.json"
	K get "brokercluster.$group/default" "topic/backup" "consumergroup/backup-readers" -o json >"$log/backup-objects.json"
	helm uninstall pinnace -n "$namespace" --wait --timeout 120s
	K delete topic/backup consumergroup/backup-readers --timeout=60s
	wait_for 90 "no broker is left" no_broker
	# Parts first: nothing owns them then, and the garbage collector may take them while the operator finds its way.
	jq 'del(.items[].metadata|.uid,.resourceVersion,.creationTimestamp,.generation)|del(.items[].status)' \
		"$log/backup-parts.json" | K create -f - || true
	jq 'del(.items[].metadata|.uid,.resourceVersion,.creationTimestamp,.generation)|del(.items[].status)' \
		"$log/backup-objects.json" | K create -f -
	wait_for 180 "the cluster is Ready" cluster_serves
	K wait --for=condition=Ready topic/backup consumergroup/backup-readers --timeout=60s
	all_come backup 300
	# Helm owns it again.
	helm uninstall pinnace -n "$namespace" --wait --timeout 120s 2>/dev/null || K delete "brokercluster.$group/default" --timeout=60s
	wait_for 90 "no broker is left" no_broker
	install_brokers
}

### a volume that is gone, a volume that is full

# messages_on TOPIC BROKER: how many this broker holds, by its own word
messages_on() {
	K exec "$(broker_pod "$2")" -- /pinnace topic describe "$1" --broker "$2" -o json | jq .messages
}

volume_deleted() {
	local there lost id
	declared disk
	sent disk 300
	there=$(messages_on disk 1)
	[ "$there" -gt 0 ] && [ "$there" -lt 300 ]
	lost=$(broker_pod 1 .metadata.uid)
	K delete pvc/data-default-broker-1-0 --wait=false
	K delete pod "$(broker_pod 1)" --wait=false
	wait_for 120 "the broker runs on another volume" other_pod 1 "$lost"
	wait_for 60 "the cluster says that a disk was replaced" reason brokercluster/default Ready DiskReplaced
	golden disk-replaced brokercluster/default
	# All that other volumes hold comes, nothing twice, nothing that was not sent.
	client disk-reader receive --topic disk --group disk-readers --expect $((300 - there)) --idle 5s --timeout 2m
	ended_well 150 disk-reader
	[ "$(bodies handled disk-reader | wc -l)" = $((300 - there)) ]
	[ -z "$(LC_ALL=C comm -13 <(bodies acknowledged disk-sender) <(bodies handled disk-reader))" ]
	id=$(K get brokercluster/default -o json |
		jq -r '.status.conditions[]|select(.type=="Ready").message|capture("pinnace.dev/accept-disks=(?<id>[^ ]+)").id')
	K annotate brokercluster/default "pinnace.dev/accept-disks=$id" --overwrite
	wait_for 60 "the cluster is Ready without the messages" cluster_serves
}

# limited_volume NAME NODE SIZE: a volume of its own size on the node, a file system in a file
limited_volume() {
	local name=$1 at=$KT_RUN/pv/$1
	mkdir -p "$at"
	truncate -s "$(numfmt --from=iec-i "$3")" "$at.img"
	# XFS: ext4 grows while it is mounted only for a root with CAP_SYS_RESOURCE.
	mkfs.xfs -q "$at.img"
	mount -o loop "$at.img" "$at"
	chmod 777 "$at"
	kubectl apply -f - <<Y
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: $name}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: $name}
spec:
  capacity: {storage: $3}
  accessModes: [ReadWriteOnce]
  storageClassName: $name
  persistentVolumeReclaimPolicy: Retain
  local: {path: $at}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node$2]}]}]}}
Y
}

# asked_size CLAIM SIZE: the claim asks for so much
asked_size() { [ "$(K get "pvc/$1" -o jsonpath='{.spec.resources.requests.storage}')" = "$2" ]; }

# grow NAME CLAIM SIZE: what the driver of a storage class does when a claim asks for more
grow() {
	local name=$1 at=$KT_RUN/pv/$1 device
	truncate -s "$(numfmt --from=iec-i "$3")" "$at.img"
	device=$(findmnt -n -o SOURCE "$at")
	losetup -c "$device"
	xfs_growfs "$at"
	kubectl patch "pv/$name" --type merge -p "{\"spec\":{\"capacity\":{\"storage\":\"$3\"}}}"
	K patch "pvc/$2" --subresource status --type merge -p "{\"status\":{\"capacity\":{\"storage\":\"$3\"}}}"
}

in_small() { K exec -i small-broker-0-0 -- /pinnace "$@"; }

# fill: sends of 1 MB until one is refused
fill() {
	local n
	for n in $(seq 100); do
		head -c 1000000 /dev/zero | in_small send small --file - --count 8 -o json >>"$log/filled.txt" 2>>"$log/refused.txt" || return 0
	done
	echo "100 times 8 MB were sent, and none was refused"; return 1
}

volume_full() {
	local held
	limited_volume small 1 $small_volume
	K apply -f - <<Y
apiVersion: $group/v1alpha1
kind: BrokerCluster
metadata: {name: small}
spec: {brokers: 1, shards: 1, storage: {size: $small_volume, className: small}}
Y
	K wait --for=condition=Ready brokercluster/small --timeout=120s
	declared small small
	fill
	tail -n 2 "$log/refused.txt"
	wait_for 30 "the cluster says that sends are refused" reason brokercluster/small StorageHealthy SendsRefused
	golden volume-full brokercluster/small
	says_not_ready brokercluster/small "refuse"
	K patch brokercluster/small --type merge -p "{\"spec\":{\"storage\":{\"size\":\"$larger_volume\"}}}"
	wait_for 60 "the claim asks for more" asked_size data-small-broker-0-0 $larger_volume
	grow small data-small-broker-0-0 $larger_volume
	K wait --for=condition=Ready brokercluster/small --timeout=120s
	reason brokercluster/small StorageHealthy HasRoom
	held=$(in_small topic describe small -o json | jq .messages)
	in_small send small --body after --count 1
	[ "$(in_small topic describe small -o json | jq .messages)" = $((held + 1)) ]
	[ "$held" -ge "$(grep -c messageId "$log/filled.txt")" ] || { echo "$held messages are held, more were acknowledged"; return 1; }
	K delete topic/small consumergroup/small-readers brokercluster/small --timeout=60s
	wait_for 60 "the broker is gone" gone pod/small-broker-0-0
	K delete pvc/data-small-broker-0-0 --timeout=60s
	kubectl delete pv/small storageclass/small --timeout=60s
	umount "$KT_RUN/pv/small"
}
gone() { [ -z "$(K get "$1" -o name --ignore-not-found)" ]; }

### a node that nobody reaches, an API server that is away

# node_of NUMBER: the number of the node on which the broker runs
node_of() { broker_pod "$1" .spec.nodeName | tr -dc 0-9; }

node_partitioned() {
	local node other
	declared partition
	node=$(node_of 2)
	other=node$(node_of 0)
	[ "node$node" != "$other" ] || { echo "brokers 0 and 2 share a node"; return 1; }
	CLIENT_NODE=$other client partition-reader receive --topic partition --group partition-readers --expect 3000 --timeout 6m
	receiving partition-reader
	CLIENT_NODE=$other client partition-sender send --topic partition --prefix partition --count 3000 --rate $paced --timeout 5m
	wait_for 60 "messages are sent" sent_so_far partition-sender 200
	# shellcheck disable=SC2064
	trap "'$HERE/node' $node heal" EXIT
	"$HERE/node" "$node" partition
	wait_for 90 "the node is not Ready" node_is "$node" Unknown
	wait_for 60 "the topic says which shard is away" reason topic/partition Ready ShardUnavailable
	golden node-partitioned topic/partition
	wait_for 30 "the cluster counts the shards that are served" shows brokercluster/default '.display.shards=="2/3"'
	"$HERE/node" "$node" heal
	wait_for 90 "the node is Ready" node_is "$node" True
	wait_for 120 "the cluster is Ready" cluster_serves
	wait_for 60 "the topic is Ready" K wait --for=condition=Ready topic/partition --timeout=1s
	ended_well 360 partition-sender partition-reader
	[ "$(bodies acknowledged partition-sender | wc -l)" = 3000 ]
	nothing_lost partition-sender partition-reader
}
node_is() { [ "$(kubectl get "node/node$1" -o json | jq -r '.status.conditions[]|select(.type=="Ready").status')" = "$2" ]; }

# the brokers do not need the API server, and the operator goes on where it stopped
api_server_away() {
	local count=$(((outage + 30) * paced)) began sent_before
	declared outage
	client outage-reader receive --topic outage --group outage-readers --expect $count --timeout 8m
	receiving outage-reader
	client outage-sender send --topic outage --prefix outage --count $count --rate $paced --timeout 7m
	wait_for 60 "messages are sent" sent_so_far outage-sender 100
	trap '"$HERE/up" 3' EXIT
	reap kube-apiserver KILL
	began=$SECONDS
	while [ $((SECONDS - began)) -lt $outage ]; do sleep 1; done   # the outage itself
	"$HERE/up" 3
	wait_for 60 "the API server answers" kubectl get --raw /readyz
	K apply -f - <<Y
apiVersion: $group/v1alpha1
kind: Topic
metadata: {name: after-outage}
spec: {messageType: NORMAL, queues: 3}
Y
	K wait --for=condition=Ready topic/after-outage --timeout=90s
	wait_for 60 "the cluster is Ready" cluster_serves
	ended_well 420 outage-sender outage-reader
	grep '^done' "$log/outage-sender.txt"
	grep -q ', 0 repeated$' "$log/outage-sender.txt" || { echo "sends failed while the API server was away"; return 1; }
	exactly_once outage-sender outage-reader
	K delete topic/after-outage --timeout=30s
}
