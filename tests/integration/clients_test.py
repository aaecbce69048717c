"""Clients that others wrote and that know nothing of Penstock: the newest boto3 there is, the SDK for Go,
a consumer library with leases and checkpoints, and AWS' library for the format of the Kinesis Producer
Library."""

import base64
import collections
import json
import os
import queue
import subprocess
import threading
import time

from node import (LabError, NodeTest, ROOT, client_environment, free_port, main, penstock, put_all,
                  read_stream, run)

GO_CLIENT = os.environ.get("PENSTOCK_GO_CLIENT", "")
SCRIPTS = os.path.join(ROOT, "tests", "integration", "javascript")
NEWEST_BOTO3 = os.path.join(ROOT, "tests", "integration", "python", "newest_boto3.py")
MODULES = os.path.join(ROOT, "build-npm", "node_modules")


def javascript_environment(credential, **variables):
    if not os.path.isdir(os.path.join(MODULES, "lifion-kinesis")):
        raise LabError(f"found no lifion-kinesis in {MODULES}; run tools/install-deps --dev")
    return {**client_environment(credential), "NODE_PATH": MODULES, "NODE_NO_WARNINGS": "1",
            "AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE": "1", **variables}


class Consumer:
    """The consumer library at work; what it hands to its application comes into `records`."""

    def __init__(self, test, url, stream, credential, options, **variables):
        self.process = subprocess.Popen(
            ["node", os.path.join(SCRIPTS, "consumer.js"), url, stream, json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=javascript_environment(credential, **variables))
        test.addCleanup(self.close)
        self.lines = queue.Queue()
        self.records = []   # (shard, record)
        self.warnings = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put({"error": "it ended"})

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.thread.join(20)
        self.process.stdout.close()

    def take(self, line):
        if "error" in line:
            raise LabError(f"the consumer library: {line['error']}; before that: {self.warnings[-3:]}")
        if "warning" in line:
            self.warnings.append(line["warning"])
        self.records += [(line["shard"], record) for record in line.get("records", ())]

    def until(self, count, seconds=60):
        end = time.monotonic() + seconds
        while len(self.records) < count:
            try:
                self.take(self.lines.get(timeout=max(0, end - time.monotonic())))
            except queue.Empty:
                raise LabError(f"waited {seconds} s for {count} records: {len(self.records)} came; "
                               f"warnings: {self.warnings[-3:]}") from None

    def settle(self, seconds=0.7):
        """What still comes, such as records for a second time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self.take(self.lines.get(timeout=left))
            except queue.Empty:
                return


def newer_boto3():
    """An interpreter whose boto3 is newer than Debian's, the newest of those on the path, or None."""
    import boto3
    version = tuple(map(int, boto3.__version__.split(".")))
    best = None
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        python = os.path.join(directory, "python3")
        if os.access(python, os.X_OK):
            done = run(python, "-c", "import boto3; print(boto3.__version__)", check=False, timeout=60)
            found = tuple(map(int, done.stdout.split("."))) if done.returncode == 0 else ()
            if found > version:
                version, best = found, python
    return best


class Clients(NodeTest):
    def test_the_newest_boto3_can_use_every_operation_it_knows(self):
        python = newer_boto3()
        if python is None:
            self.skipTest("found no python3 on the path with a boto3 newer than Debian's")
        node = self.node(start=False, signed="admin")
        keys = os.path.join(node.own, "keys")
        self.assertEqual(penstock("keys", "make", "--keys-file", keys).returncode, 0)
        node.start("--keys-file", keys)
        done = run(python, "-B", NEWEST_BOTO3, node.url, timeout=120, check=False,
                   env=client_environment(node.credential))
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        sizes = [*range(100), 2_000_000]
        self.assertEqual({key: value for key, value in found.items() if key != "versions"}, {
            "arn": "arn:aws:kinesis:us-east-1:000000000000:stream/s", "recordSize": 2048, "hasStreamId": False,
            "shards": 2, "limits": 2, "failed": 0, "sizes": sizes, "tooLarge": "ValidationException",
            "tags": [{"Key": "cost", "Value": "7"}], "same": True, "policyKept": True, "policyAfter": "{}",
            "consumer": "ACTIVE", "subscribed": sizes, "consumers": ["c"],
            "consumerTags": [{"Key": "of", "Value": "consumer"}], "open": 3, "sizesAfter": sizes,
            "retention": 36, "metrics": 6, "encryption": "KMS", "mode": "ON_DEMAND", "warm": 5,
            "account": "ENABLED", "afterDelete": "ResourceNotFoundException", "notCalled": []},
            found["versions"])

    def tls(self, node):
        """Starts `node` with a port for TLS as well; (url, authority)."""
        directory = os.path.join(node.own, "tls")
        made = penstock("certificate", "make", "--dir", directory, "--name", "127.0.0.1")
        self.assertEqual(made.returncode, 0, made.stderr)
        port = free_port()
        node.start("--https", f"127.0.0.1:{port}", "--tls-cert", os.path.join(directory, "server.pem"),
                   "--tls-key", os.path.join(directory, "server-key.pem"))
        return f"https://127.0.0.1:{port}", os.path.join(directory, "ca.pem")

    def go(self, url, stream, credential, **variables):
        if not os.access(GO_CLIENT, os.X_OK):
            raise LabError(f"found no program at '{GO_CLIENT}'; expected the Go client, which is built "
                           "where Go is found: run tools/install-deps --dev and set the build up again")
        done = run(GO_CLIENT, url, stream, timeout=120,
                   env={**client_environment(credential), **variables})
        return json.loads(done.stdout)

    def check_go(self, found, protocols):
        texts = [f"text {i:03}" for i in range(100)]
        self.assertEqual(found, {
            "got": texts, "shards": 2, "subscribed": texts, "pushed": "pushed", "consumers": 1,
            "refused": "ResourceNotFoundException", "invalid": "InvalidArgumentException",
            "afterDelete": "ResourceNotFoundException", "protocols": protocols})

    def test_the_go_sdk_puts_gets_and_subscribes(self):
        node = self.node(signed="admin")
        self.check_go(self.go(node.url, "words", node.credential), ["HTTP/1.1"])

    def test_the_go_sdk_over_tls_speaks_http_2(self):
        node = self.node(start=False, signed="admin")
        url, authority = self.tls(node)
        self.check_go(self.go(url, "words", node.credential, SSL_CERT_FILE=authority), ["HTTP/2.0"])

    def consume_across_changes(self, node, url, options, **variables):
        """Every record that was put is handed over once, those of a key in their order."""
        client = node.boto()
        node.create_stream("s", 3, client)
        entries = [(f"key-{i % 20}", b"%05d" % i) for i in range(900)]
        put_all(client, "s", entries[:300], batch=20)
        consumer = Consumer(self, url, "s", node.credential, options, **variables)
        consumer.until(300)
        shards = client.list_shards(StreamName="s")["Shards"]
        first = int(shards[0]["HashKeyRange"]["EndingHashKey"])
        client.split_shard(StreamName="s", ShardToSplit=shards[0]["ShardId"],
                           NewStartingHashKey=str(first // 2))
        put_all(client, "s", entries[300:600], batch=20)
        node.wait_active("s", client)
        client.merge_shards(StreamName="s", ShardToMerge=shards[1]["ShardId"],
                            AdjacentShardToMerge=shards[2]["ShardId"])
        put_all(client, "s", entries[600:], batch=20)
        consumer.until(900)
        consumer.settle()
        wanted = {(shard, record["SequenceNumber"]): (record["PartitionKey"], record["Data"].decode())
                  for shard, records in read_stream(client, "s").items() for record in records}
        self.assertEqual(sorted(wanted.values()), sorted((key, data.decode()) for key, data in entries))
        found = [((shard, record["number"]), (record["key"], record["data"]))
                 for shard, record in consumer.records]
        self.assertEqual(len(found), len(wanted), consumer.warnings)
        self.assertEqual(dict(found), wanted)
        by_key = collections.defaultdict(list)
        for _, (key, data) in found:
            by_key[key].append(data)
        for key, texts in by_key.items():
            self.assertEqual(texts, sorted(texts), key)
        self.assertEqual(len({shard for shard, _ in wanted}), 6)

    def test_a_consumer_library_that_polls_follows_a_split_and_a_merge(self):
        node = self.node(signed="admin")
        self.consume_across_changes(node, node.url, {"useEnhancedFanOut": False})

    def test_a_consumer_library_that_subscribes_follows_a_split_and_a_merge(self):
        node = self.node(start=False, signed="admin")
        url, authority = self.tls(node)
        self.consume_across_changes(node, url, {"useEnhancedFanOut": True, "maxEnhancedConsumers": 1},
                                    NODE_EXTRA_CA_CERTS=authority)

    def aggregate(self, what, records):
        done = subprocess.run(["node", os.path.join(SCRIPTS, "aggregate.js"), what], text=True,
                              input=json.dumps(records), capture_output=True, timeout=60, check=False,
                              env=javascript_environment(None))
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_aggregated_records_pass_untouched(self):
        node = self.node(signed="admin")
        client = node.boto()
        node.create_stream("s", 2, client)
        # Text, which is what the consumer library hands over; of many sizes, for more than one record.
        texts = [f"{i:05}".encode() + b"x" * (i * 37 % 5000) for i in range(1000)]
        users = [{"key": f"user-{i % 50}", "data": base64.b64encode(text).decode()}
                 for i, text in enumerate(texts)]
        packed = self.aggregate("pack", users)
        self.assertGreater(len(packed), 1)
        entries = [(one["key"], base64.b64decode(one["data"])) for one in packed]
        self.assertTrue(all(data.startswith(b"\xf3\x89\x9a\xc2") for _, data in entries))
        put_all(client, "s", entries, batch=1)
        stored = [record for records in read_stream(client, "s").values() for record in records]
        self.assertEqual(sorted((record["PartitionKey"], record["Data"]) for record in stored),
                         sorted(entries))
        taken_apart = self.aggregate("unpack", [
            {"key": record["PartitionKey"], "data": base64.b64encode(record["Data"]).decode()}
            for record in stored])
        self.assertEqual(sorted((one["key"], one["data"]) for some in taken_apart for one in some),
                         sorted((one["key"], one["data"]) for one in users))
        consumer = Consumer(self, node.url, "s", node.credential, {"shouldDeaggregate": True})
        consumer.until(len(texts))
        consumer.settle()
        self.assertEqual(sorted(record["data"].encode() for _, record in consumer.records), sorted(texts))


if __name__ == "__main__":
    main()
