"""Encryption at rest with the real process: what stands on the drives, and what happens without the key."""

import os
import signal
import socket
import threading

from botocore.exceptions import ClientError, EventStreamError

from node import NodeTest, free_port, main, penstock, read_shard, read_stream, wait_for

SHARD = "shardId-000000000000"
SECRET = b"attack at dawn, by the northern gate"
WHO = "the-general-himself"
OPEN = b"everybody may know this"
DEFAULT = "alias/aws/kinesis"


def data_of(records):
    return [record["Data"] for record in records]


class EncryptionTest(NodeTest):
    def keys(self, *words):
        done = penstock("keys", *words, "--keys-file", self.keys_file)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def made(self, *arguments, start=True):
        node = self.node(*arguments, start=False)
        self.keys_file = os.path.join(node.own, "keys")
        self.key = self.keys("make")
        if start:
            node.start("--keys-file", self.keys_file)
        return node

    def reload(self, node, what):
        """Has the node read its keys again; `what` is true once it has."""
        node.process.send_signal(signal.SIGHUP)
        wait_for(what, "the node to use its keys file as it is now")

    def refused(self, call, exception):
        with self.assertRaises(ClientError) as caught:
            call()
        self.assertEqual(caught.exception.response["Error"]["Code"], exception)
        self.assertIn(self.key, caught.exception.response["Error"]["Message"])

    def found_on_drives(self, node, *texts):
        """Which of these texts some file of the node has."""
        found = set()
        for top, _, names in os.walk(node.data[0]):
            for name in names:
                with open(os.path.join(top, name), "rb") as file:
                    content = file.read()
                found.update(text for text in texts if text in content)
        return found

    def put(self, client, text, count=1, key=WHO):
        for number in range(count):
            answer = client.put_record(StreamName="s", PartitionKey=key,
                                       Data=text + b" %d" % number)
        return answer

    def test_nothing_is_in_clear_on_the_drives_and_nothing_is_lost_without_the_key(self):
        node = self.made()
        client = node.boto()
        node.create_stream("s", 1)
        self.assertNotIn("EncryptionType", self.put(client, OPEN, key="a-town-crier"))
        client.start_stream_encryption(StreamName="s", EncryptionType="KMS", KeyId=DEFAULT)
        described = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]
        self.assertEqual((described["EncryptionType"], described["KeyId"]), ("KMS", DEFAULT))
        self.assertEqual(self.put(client, SECRET, 20)["EncryptionType"], "KMS")
        large = os.urandom(16) + b"%s" % SECRET * 5000
        answer = client.put_records(StreamName="s", Records=[
            {"PartitionKey": WHO, "Data": large, "ExplicitHashKey": "7"}] * 3)
        self.assertEqual((answer["FailedRecordCount"], answer["EncryptionType"]), (0, "KMS"))
        whole = ([OPEN + b" 0"] + [SECRET + b" %d" % i for i in range(20)] +
                 [large] * 3)
        records = read_shard(client, "s", SHARD)
        self.assertEqual(data_of(records), whole)
        self.assertEqual({r["PartitionKey"] for r in records[1:]}, {WHO})
        self.assertEqual([r.get("EncryptionType") for r in records], [None] + ["KMS"] * 23)
        self.assertEqual(node.stop(), 0)
        # Now all of it is in segments. What was stored in clear the search does find.
        self.assertEqual(self.found_on_drives(node, OPEN, b"a-town-crier", SECRET, WHO.encode()),
                         {OPEN, b"a-town-crier"})

        # Without a keys file.
        node.start()
        warned = [line for line in node.log().splitlines() if "there is no --keys-file" in line]
        self.assertEqual(len(warned), 1, node.log())
        self.assertIn(f": s (key {self.key}). Until", warned[0])
        client = node.boto()
        self.refused(lambda: self.put(client, b"not taken"), "KMSOptInRequired")
        first = client.get_shard_iterator(StreamName="s", ShardId=SHARD,
                                          ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        def stands_at_the_sealed(client, exception):
            """Each read that comes to a sealed record says so, however it came there and how often."""
            answer = client.get_records(ShardIterator=first)
            self.assertEqual(data_of(answer["Records"]), whole[:1])
            iterators = [answer["NextShardIterator"]] + [
                client.get_shard_iterator(StreamName="s", ShardId=SHARD, ShardIteratorType=kind,
                                          StartingSequenceNumber=number)["ShardIterator"]
                for kind, number in (("AFTER_SEQUENCE_NUMBER", records[0]["SequenceNumber"]),
                                     ("AT_SEQUENCE_NUMBER", records[7]["SequenceNumber"]))]
            for iterator in iterators[1:] + iterators[:1] * 3:
                for limit in (1, 10000):
                    self.refused(lambda: client.get_records(ShardIterator=iterator, Limit=limit),
                                 exception)
        stands_at_the_sealed(client, "KMSOptInRequired")
        consumer = client.register_stream_consumer(
            StreamARN=client.describe_stream(StreamName="s")["StreamDescription"]["StreamARN"],
            ConsumerName="c")["Consumer"]["ConsumerARN"]
        def subscription_ends_with(client, exception, **place):
            pushed = []
            with self.assertRaises(EventStreamError) as caught:
                for event in client.subscribe_to_shard(ConsumerARN=consumer, ShardId=SHARD,
                                                       StartingPosition=place)["EventStream"]:
                    pushed += event["SubscribeToShardEvent"]["Records"]
            self.assertEqual(caught.exception.response["Error"]["Code"], exception)
            return data_of(pushed)
        behind_clear = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": records[0]["SequenceNumber"]}
        self.assertEqual(subscription_ends_with(client, "KMSOptInRequired", Type="TRIM_HORIZON"),
                         whole[:1])
        self.assertEqual(subscription_ends_with(client, "KMSOptInRequired", **behind_clear), [])
        self.assertGreater(node.metrics().get("penstock_key_refusals_total",
                                              exception="KMSOptInRequired"), 2)
        self.assertEqual(node.stop(), 0)

        # With another keys file, then with the right one.
        right, self.keys_file = self.keys_file, os.path.join(node.own, "others")
        self.keys("make")
        node.start("--keys-file", self.keys_file)
        warned = [line for line in node.log().splitlines() if " lacks keys of encrypted streams" in line]
        self.assertEqual(len(warned), 1, node.log())
        self.assertIn(f"keys file {self.keys_file} lacks", warned[0])
        self.assertIn(f": s (key {self.key} is not in the file). Until", warned[0])
        client = node.boto()
        self.refused(lambda: self.put(client, b"not taken"), "KMSNotFoundException")
        stands_at_the_sealed(client, "KMSNotFoundException")
        self.assertEqual(subscription_ends_with(client, "KMSNotFoundException", **behind_clear), [])
        self.assertEqual(node.stop(), 0)
        before = len(node.log())
        node.start("--keys-file", right)
        self.assertNotIn("that they sealed", node.log()[before:])
        client = node.boto()
        self.assertEqual(data_of(read_shard(client, "s", SHARD)), whole)
        client.stop_stream_encryption(StreamName="s", EncryptionType="KMS", KeyId=self.key)
        self.assertNotIn("EncryptionType", self.put(client, b"clear again"))
        self.assertEqual(data_of(read_shard(client, "s", SHARD)), whole + [b"clear again 0"])

    def test_a_key_is_disabled_enabled_and_changed_while_the_node_runs(self):
        node = self.made()
        self.assertIn(f"keys file {self.keys_file}: 1 key\n", node.log())
        client = node.boto()
        node.create_stream("s", 1)
        client.start_stream_encryption(StreamName="s", EncryptionType="KMS", KeyId=self.key)
        self.put(client, SECRET)

        def stored():
            try:
                self.put(client, SECRET)
            except ClientError as error:
                self.assertEqual(error.response["Error"]["Code"], "KMSDisabledException")
                return False
            return True
        self.keys("disable", DEFAULT)
        self.reload(node, lambda: not stored())
        self.refused(lambda: read_shard(client, "s", SHARD), "KMSDisabledException")
        self.assertEqual(node.metrics().get("penstock_encrypted_streams", key="refused"), 1)
        self.keys("enable", self.key)
        self.reload(node, stored)
        before = len(read_shard(client, "s", SHARD))
        # Another key: what the first sealed is still read.
        other = self.keys("make", "--alias", "alias/second")
        self.reload(node, lambda: node.metrics().get("penstock_keys", state="enabled") == 2)
        client.start_stream_encryption(StreamName="s", EncryptionType="KMS", KeyId="alias/second")
        self.put(client, SECRET)
        self.assertEqual(len(read_shard(client, "s", SHARD)), before + 1)
        # A file that cannot be used changes nothing.
        os.chmod(self.keys_file, 0o644)
        self.reload(node, lambda: node.metrics().get("penstock_keys_reloads_total",
                                                     result="failed") == 1)
        self.put(client, SECRET)
        self.assertIn("chmod 600", node.log())
        os.chmod(self.keys_file, 0o600)
        listed = penstock("keys", "list", "--keys-file", self.keys_file).stdout
        self.assertIn(other, listed)
        with open(self.keys_file, encoding="ascii") as file:
            secrets = [line.split()[3] for line in file if line.startswith("key ")]
        for text in (listed, node.log()):
            for secret in secrets:
                self.assertNotIn(secret, text)

    def test_doors_reshards_and_subscribers_of_an_encrypted_stream(self):
        port = free_port(socket.SOCK_DGRAM)
        node = self.made("--port", "kernel:127.0.0.1", "--door", f"udp:{port}=s", start=False)
        node.start("--keys-file", self.keys_file)
        client = node.boto()
        node.create_stream("s", 1)
        client.start_stream_encryption(StreamName="s", EncryptionType="KMS", KeyId=DEFAULT)
        consumer = client.register_stream_consumer(
            StreamARN=client.describe_stream(StreamName="s")["StreamDescription"]["StreamARN"],
            ConsumerName="c")["Consumer"]["ConsumerARN"]
        events = client.subscribe_to_shard(ConsumerARN=consumer, ShardId=SHARD,
                                           StartingPosition={"Type": "LATEST"})["EventStream"]
        self.addCleanup(events.close)
        pushed, first = [], threading.Event()

        def follow():
            for event in events:
                first.set()
                pushed.extend(event["SubscribeToShardEvent"]["Records"])
        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        self.assertTrue(first.wait(20), "no event came")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(10):
                sender.sendto(b"from a door " + SECRET + b" %d" % number, ("127.0.0.1", port))
        self.assert_committed(node, "s", 10)
        self.put(client, SECRET, 10)
        wait_for(lambda: len(pushed) >= 20, "the subscriber to have 20 records")
        # A new data key while the subscription stands.
        client.start_stream_encryption(StreamName="s", EncryptionType="KMS", KeyId=self.key)
        self.put(client, SECRET, 5)
        wait_for(lambda: len(pushed) >= 25, "the subscriber to have 25 records")
        self.assertEqual({record["EncryptionType"] for record in pushed}, {"KMS"})
        client.split_shard(StreamName="s", ShardToSplit=SHARD, NewStartingHashKey=str(1 << 127))
        node.wait_active("s")
        # The same subscription ends with its shard; children are sealed as their parent was.
        follower.join(20)
        self.assertFalse(follower.is_alive())
        for number in range(20):
            client.put_record(StreamName="s", PartitionKey=f"{WHO}-{number}", Data=SECRET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"from a door " + SECRET, ("127.0.0.1", port))
        self.assert_committed(node, "s", 46)
        shards = read_stream(client, "s")
        self.assertEqual(len(shards), 3)
        self.assertEqual(sum(map(len, shards.values())), 46)
        for records in shards.values():
            self.assertEqual({record["EncryptionType"] for record in records}, {"KMS"})
            self.assertTrue(all(SECRET in record["Data"] for record in records))

        # Without its key nothing of a door is stored in clear.
        self.keys("disable", DEFAULT)
        def is_refused():
            return node.metrics().get("penstock_encrypted_streams", key="refused") == 1
        self.reload(node, is_refused)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"into the void " + SECRET, ("127.0.0.1", port))
        wait_for(lambda: node.metrics().get("penstock_dropped_total", reason="key_unavailable") == 1,
                 "the datagram to be dropped")
        self.keys("enable", DEFAULT)
        self.reload(node, lambda: not is_refused())
        # Killed, it has in its journal what it had acknowledged, sealed as well.
        node.kill()
        self.assertEqual(self.found_on_drives(node, SECRET, WHO.encode()), set())
        node.start("--keys-file", self.keys_file)
        self.assertEqual(sum(map(len, read_stream(node.boto(), "s").values())), 46)

    def test_a_start_refuses_a_keys_file_that_others_may_read_or_that_is_not_there(self):
        node = self.made(start=False)
        os.chmod(self.keys_file, 0o640)
        none = os.path.join(node.own, "none")
        for path, why in ((self.keys_file, "chmod 600"),
                          (none, f"make a first one with `penstock keys make --keys-file {none}`"),
                          (os.path.join(node.data[0], "keys"), "within the data directory")):
            done = penstock("serve", "--http", f"127.0.0.1:{node.http_port}", "--unsigned", "--data",
                            node.data[0], *node.arguments, "--keys-file", path)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"--keys-file {path}: ", done.stderr)
            self.assertIn(why, done.stderr)
        again = penstock("keys", "remove", self.key, "--keys-file", none)
        self.assertEqual(again.returncode, 1)
        os.chmod(self.keys_file, 0o600)
        done = penstock("keys", "remove", self.key, "--keys-file", self.keys_file)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Disable it first", done.stderr)


if __name__ == "__main__":
    main()
