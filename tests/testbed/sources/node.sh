#!/bin/sh
# Becomes the first process of a node, in namespaces that `unshare` just made.
# node.sh FOLDER TOOLS NAME: the node's folder, what lies over /usr, and the host's name in it.
set -eu
folder=$1 tools=$2 name=$3

# This /proc is still the machine's, so it tells the number by which the machine knows this process.
read -r pid rest < /proc/self/stat
echo "$pid" > "$folder/pid.new"
mv "$folder/pid.new" "$folder/pid"

# Without -n, mount would leave notes below /run for the whole machine.
mount -n --make-rprivate /
mount -n -t proc proc /proc

# What the node's programs write to fixed places stays in the node's folder.
for place in etc opt var/lib; do
  mkdir -p "$folder/over/$place" "$folder/work/$place"
  mount -n -t overlay overlay \
    -o "lowerdir=/$place,upperdir=$folder/over/$place,workdir=$folder/work/$place" "/$place"
done
mount -n -t overlay overlay -o "lowerdir=$tools:/usr" /usr
mount -n -t tmpfs tmpfs /run
mount -n -t tmpfs tmpfs /var/log
mkdir -p "$folder/kubelet" "$folder/containerd" /var/lib/kubelet /var/lib/containerd
# An overlay cannot lie on an overlay, and these hold the containers' own.
mount -n --bind "$folder/kubelet" /var/lib/kubelet
mount -n --bind "$folder/containerd" /var/lib/containerd

# kubelet insists on settings that hold for the whole machine. It finds files that say so already.
mkdir -p "$folder/settings"
while read -r setting value; do
  echo "$value" > "$folder/settings/$setting"
  mount -n --bind "$folder/settings/$setting" "/proc/sys/$(echo "$setting" | tr . /)"
done <<END
vm.overcommit_memory 1
vm.panic_on_oom 0
kernel.panic 10
kernel.panic_on_oops 1
kernel.keys.root_maxkeys 1000000
kernel.keys.root_maxbytes 25000000
END
mount -n --make-rshared /

hostname "$name"
ip link set lo up
# These belong to the node's own network.
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter
echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
nft list ruleset > /dev/null

touch "$folder/ready"
exec sleep infinity
