#!/usr/bin/env bash
# Runs a command with ECOTONE_TEST_S3_ENDPOINT set to an S3 server, AWS_* to its credentials and ECOTONE_TEST_S3_BUCKET
# to an empty bucket: the one given, else Ceph with its object gateway, which this script starts (from Debian's packages,
# installed when absent) in a temporary folder and stops at the end.
#
# Ceph is what many installations run: it verifies signatures and signed headers, flushes what it acknowledges, and knows
# `If-None-Match: *`, multipart, ranges and presigned addresses.
set -euo pipefail
if [ -n "${ECOTONE_TEST_S3_ENDPOINT:-}" ]; then exec "$@"; fi

for program in ceph-mon ceph-osd radosgw; do
  command -v $program >/dev/null && continue
  echo "installing Ceph from Debian's packages" >&2
  run_as_root=(); [ "$(id -u)" = 0 ] || run_as_root=(sudo)
  "${run_as_root[@]}" apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive "${run_as_root[@]}" apt-get install -y -qq --no-install-recommends \
    ceph-common ceph-mon ceph-osd radosgw >&2
  break
done
folder=$(mktemp -d)
servers=()
# whatever comes of it: a trap that fails would be the status of the whole
trap 'kill -KILL "${servers[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder" || true' EXIT
read -r monitor gateway < <(python3 -c '
import random, socket
held = []
while len(held) < 2:  # below those that the system gives to others before the servers have them
    try:
        held.append(socket.create_server(("127.0.0.1", random.randrange(10_240, 32_768))))
    except OSError:
        continue
print(*(s.getsockname()[1] for s in held))')
id=$(python3 -c 'import uuid; print(uuid.uuid4())')
export CEPH_CONF="$folder/ceph.conf"
cat >"$CEPH_CONF" <<END
[global]
fsid = $id
mon_host = [v2:127.0.0.1:$monitor/0]
public_addr = 127.0.0.1
run_dir = $folder
admin_socket =
log_file = $folder/\$name.log
mon_data = $folder/mon
osd_data = $folder/osd
mon_data_avail_crit = 1
mon_data_avail_warn = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_cluster_log_file = $folder/cluster.log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_memory_target = 1073741824
bluestore_block_size = 16106127360
rgw_rados_pool_pg_num_min = 1
rgw_frontends = beast endpoint=127.0.0.1:$gateway tcp_nodelay=1
rgw_enable_usage_log = false
rgw_enable_apis = s3
keyring = $folder/keyring
END
mkdir "$folder/mon" "$folder/osd"
ceph-authtool --create-keyring "$folder/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool "$folder/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' >/dev/null
ceph-authtool "$folder/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' >/dev/null
monmaptool --create --fsid "$id" --addv n "[v2:127.0.0.1:$monitor]" "$folder/monmap" >/dev/null
ceph-mon --mkfs -i n --monmap "$folder/monmap" --keyring "$folder/keyring"
ceph-mon -i n -f >"$folder/mon.out" 2>&1 &
servers+=($!)
disk=$(python3 -c 'import uuid; print(uuid.uuid4())')
timeout 300 ceph osd new "$disk" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$disk" >"$folder/mkfs.out" 2>&1
ceph-osd -i 0 -f >"$folder/osd.out" 2>&1 &
servers+=($!)
export AWS_ACCESS_KEY_ID=ecotone-tests AWS_SECRET_ACCESS_KEY=s3-secret-of-these-tests AWS_REGION=us-east-1
timeout 300 radosgw-admin user create --uid tests --display-name tests \
  --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" >"$folder/user.out" 2>&1
radosgw -n client.admin -f >"$folder/gateway.out" 2>&1 &
servers+=($!)
export ECOTONE_TEST_S3_ENDPOINT="http://127.0.0.1:$gateway" ECOTONE_TEST_S3_BUCKET=ecotone-tests
unset AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_PROFILE CEPH_CONF
if ! timeout 300 bash -c 'until curl -s -o /dev/null "$0"; do sleep 0.1; done' "$ECOTONE_TEST_S3_ENDPOINT"; then
  tail -n 20 "$folder"/*.out >&2
  exit 1
fi
python3 - <<'END'
import datetime, hashlib, hmac, os, urllib.request
host = os.environ["ECOTONE_TEST_S3_ENDPOINT"].removeprefix("http://")
bucket, now = os.environ["ECOTONE_TEST_S3_BUCKET"], datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
scope = f"{now[:8]}/us-east-1/s3/aws4_request"
asked = f"PUT\n/{bucket}\n\nhost:{host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{now}\n\n"
asked += "host;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD"
key = b"AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"].encode()
for part in scope.split("/"):
    key = hmac.digest(key, part.encode(), "sha256")
text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
signed = f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, "
signed += f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={hmac.new(key, text.encode(), 'sha256').hexdigest()}"
headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now, "authorization": signed}
urllib.request.urlopen(urllib.request.Request(f"http://{host}/{bucket}", method="PUT", headers=headers)).read()
END
"$@"
