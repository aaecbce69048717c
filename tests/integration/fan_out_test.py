"""Enhanced fan-out with real clients: AWS' CLI registers, boto3 subscribes over HTTP/1.1, the JavaScript
SDK over HTTP/2 in clear text and over TLS."""

import base64
import http.client
import json
import os
import queue
import subprocess
import threading
import time

from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError

from node import (LabError, NodeTest, ROOT, client_environment, free_port, main, penstock, put_all,
                  wait_for)

SHARD = "shardId-000000000000"
LATEST = {"Type": "LATEST"}
HORIZON = {"Type": "TRIM_HORIZON"}


class Subscriber:
    """Events of one subscription as they come, in a queue: dictionaries, then what ended it."""

    def __init__(self):
        self.events = queue.Queue()
        self.ended = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self, test):
        test.addCleanup(self.close)
        self.thread.start()

    def run(self):
        try:
            for event in self.read():
                self.events.put(event)
            self.events.put("")
        except Exception as error:   # pylint: disable=broad-except
            self.events.put(getattr(error, "response", {}).get("Error", {}).get("Code") or repr(error))

    def next(self, seconds=30):
        """The next event; raises at the end of the stream."""
        got = self.events.get(timeout=seconds)
        if isinstance(got, str):
            self.ended = got
            raise LabError(f"the subscription ended: '{got}'")
        return got

    def end(self, seconds=30):
        """What ended it, '' for nothing special; events before that are passed over."""
        while self.ended is None:
            try:
                self.next(seconds)
            except LabError:
                pass
        return self.ended

    def data(self, count, seconds=60):
        """Data of the next `count` records, and the last event."""
        records = []
        while len(records) < count:
            event = self.next(seconds)
            records += [record["Data"] for record in event["Records"]]
        return records, event


class Boto(Subscriber):
    def __init__(self, test, node, consumer, position, shard=SHARD):
        super().__init__()
        self.client = node.boto()
        self.answer = self.client.subscribe_to_shard(ConsumerARN=consumer, ShardId=shard,
                                                     StartingPosition=position)
        self.start(test)

    def read(self):
        for event in self.answer["EventStream"]:
            yield event["SubscribeToShardEvent"]

    def close(self):
        self.answer["EventStream"].close()


class JavaScript(Subscriber):
    def __init__(self, test, endpoint, consumer, position, credential=None, **variables):
        super().__init__()
        modules = os.path.join(ROOT, "build-npm", "node_modules")
        if not os.path.isdir(modules):
            raise LabError(f"found no {modules}; run tools/install-deps --dev")
        self.process = subprocess.Popen(
            ["node", os.path.join(ROOT, "tests", "integration", "javascript", "subscribe.js"),
             endpoint, consumer, SHARD, json.dumps(position)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**client_environment(credential), "NODE_PATH": modules, "NODE_NO_WARNINGS": "1",
                 **variables})
        self.start(test)

    def read(self):
        for line in self.process.stdout:
            said = json.loads(line)
            if "end" in said:
                if said["end"]:
                    raise LabError(said["end"])
                return
            if "subscribed" not in said:
                yield {"Records": [{"Data": record["data"].encode("latin1"), **record}
                                   for record in said["records"]],
                       "ContinuationSequenceNumber": said.get("continuation"),
                       "MillisBehindLatest": said["behind"], "now": said["now"]}

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Plain:
    """A subscription over a socket of its own that is read only when it is told to."""

    def __init__(self, test, node, consumer, position):
        self.connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=60)
        test.addCleanup(self.connection.close)
        self.connection.request("POST", "/", json.dumps({
            "ConsumerARN": consumer, "ShardId": SHARD, "StartingPosition": position}), {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": "Kinesis_20131202.SubscribeToShard"})
        self.answer = self.connection.getresponse()
        self.buffer = EventStreamBuffer()

    def messages(self):
        while True:
            chunk = self.answer.read1(65536)
            if not chunk:
                return
            self.buffer.add_data(chunk)
            yield from self.buffer


class FanOut(NodeTest):
    def stream(self, node, name="s", shards=1):
        client = node.boto()
        node.create_stream(name, shards, client)
        return client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]

    def consumer(self, node, stream_arn, name):
        client = node.boto()
        made = client.register_stream_consumer(StreamARN=stream_arn, ConsumerName=name)["Consumer"]
        self.assertEqual(made["ConsumerStatus"], "CREATING")
        wait_for(lambda: client.describe_stream_consumer(ConsumerARN=made["ConsumerARN"])
                 ["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE", "the consumer to be active")
        return made["ConsumerARN"]

    def put(self, client, *texts, stream="s"):
        put_all(client, stream, [("k", text) for text in texts])

    def ended(self, node, reason):
        return node.metrics().get("penstock_fan_out_ended_total", reason=reason)

    def assert_subscribed(self, node, count):
        wait_for(lambda: node.metrics().get("penstock_fan_out_subscriptions") == count,
                 f"{count} subscriptions")

    def test_the_cli_registers_describes_lists_and_deregisters(self):
        node = self.node(signed="admin")
        arn = self.stream(node)
        made = [node.aws("register-stream-consumer", "--stream-arn", arn, "--consumer-name",
                         f"app-{i}")["Consumer"] for i in range(3)]
        self.assertRegex(made[0]["ConsumerARN"], r":stream/s/consumer/app-0:\d{10}$")
        summary = node.aws("describe-stream-summary", "--stream-name", "s")
        self.assertEqual(summary["StreamDescriptionSummary"]["ConsumerCount"], 3)
        by_arn = node.aws("describe-stream-consumer", "--consumer-arn", made[1]["ConsumerARN"])
        by_name = node.aws("describe-stream-consumer", "--stream-arn", arn, "--consumer-name", "app-1")
        self.assertEqual(by_arn, by_name)
        self.assertEqual(by_arn["ConsumerDescription"]["ConsumerStatus"], "ACTIVE")
        listed = node.aws("list-stream-consumers", "--stream-arn", arn, "--page-size", "1")
        self.assertEqual([c["ConsumerName"] for c in listed["Consumers"]], ["app-0", "app-1", "app-2"])
        node.aws("deregister-stream-consumer", "--consumer-arn", made[0]["ConsumerARN"])
        refused = node.aws("delete-stream", "--stream-name", "s", check=False)
        self.assertIn("ResourceInUseException", refused.stderr)
        node.kill()
        node.start()
        listed = node.aws("list-stream-consumers", "--stream-arn", arn)
        self.assertEqual([c["ConsumerARN"] for c in listed["Consumers"]],
                         [c["ConsumerARN"] for c in made[1:]])
        node.aws("delete-stream", "--stream-name", "s", "--enforce-consumer-deletion")
        wait_for(lambda: not node.aws("list-streams")["StreamNames"], "the stream to be gone")

    def pushes(self, client, subscriber, count=10):
        """Each record comes by itself, long before the event that comes anyway."""
        subscriber.next()
        for i in range(count):
            begun = time.monotonic()
            self.put(client, f"push {i}".encode())
            self.assertEqual(subscriber.data(1)[0], [f"push {i}".encode()])
            self.assertLess(time.monotonic() - begun, 3)

    def test_boto_is_pushed_to_over_http_1(self):
        node = self.node(signed="admin")
        consumer = self.consumer(node, self.stream(node), "app")
        self.pushes(node.boto(), Boto(self, node, consumer, LATEST))

    def test_the_javascript_sdk_is_pushed_to_over_http_2(self):
        node = self.node(signed="admin")
        consumer = self.consumer(node, self.stream(node), "app")
        subscriber = JavaScript(self, node.url, consumer, LATEST, node.credential)
        self.pushes(node.boto(), subscriber)
        self.assertGreater(node.metrics().get("penstock_http_requests_received_total", protocol="h2"), 0)

    def test_the_javascript_sdk_is_pushed_to_over_tls(self):
        node = self.node(start=False, signed="admin")
        directory = os.path.join(node.own, "tls")
        made = penstock("certificate", "make", "--dir", directory, "--name", "127.0.0.1")
        self.assertEqual(made.returncode, 0, made.stderr)
        port = free_port()
        node.start("--https", f"127.0.0.1:{port}", "--tls-cert",
                   os.path.join(directory, "server.pem"), "--tls-key",
                   os.path.join(directory, "server-key.pem"))
        consumer = self.consumer(node, self.stream(node), "app")
        subscriber = JavaScript(self, f"https://127.0.0.1:{port}", consumer, LATEST, node.credential,
                                NODE_EXTRA_CA_CERTS=os.path.join(directory, "ca.pem"))
        self.pushes(node.boto(), subscriber)

    def test_every_position_and_a_large_backlog(self):
        node = self.node("--http-threads", "2")
        arn = self.stream(node)
        client = node.boto()
        texts = [bytes([i]) * 400_000 for i in range(12)]
        self.put(client, *texts)
        first = Boto(self, node, self.consumer(node, arn, "horizon"), HORIZON)
        got, _ = first.data(12)
        self.assertEqual(got, texts)
        iterator = client.get_shard_iterator(StreamName="s", ShardId=SHARD,
                                             ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        records = []
        while len(records) < 12:
            answer = client.get_records(ShardIterator=iterator)
            records += answer["Records"]
            iterator = answer["NextShardIterator"]
        number = records[7]["SequenceNumber"]
        for name, position, start in (
                ("at", {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": number}, 7),
                ("after", {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number}, 8),
                ("time", {"Type": "AT_TIMESTAMP",
                          "Timestamp": records[0]["ApproximateArrivalTimestamp"]}, 0)):
            subscriber = Boto(self, node, self.consumer(node, arn, name), position)
            self.assertEqual(subscriber.data(12 - start)[0], texts[start:], name)
        self.put(client, b"and more")
        self.assertEqual(first.data(1)[0], [b"and more"])
        with self.assertRaises(ClientError) as refused:
            Boto(self, node, arn + "/consumer/none:1", HORIZON)
        self.assertEqual(refused.exception.response["Error"]["Code"], "ResourceNotFoundException")

    def test_without_records_an_event_comes_every_five_seconds(self):
        node = self.node()
        consumer = self.consumer(node, self.stream(node), "app")
        subscriber = Boto(self, node, consumer, LATEST)
        before = subscriber.next()
        for _ in range(2):
            begun = time.monotonic()
            event = subscriber.next(20)
            # Less what a busy machine may add.
            self.assertLess(time.monotonic() - begun, 9)
            self.assertEqual(event["Records"], [])
            self.assertEqual(event["MillisBehindLatest"], 0)
            self.assertGreater(event["ContinuationSequenceNumber"], before["ContinuationSequenceNumber"])
            before = event

    def test_a_second_subscription_takes_over_after_five_seconds(self):
        node = self.node("--http-threads", "2")
        consumer = self.consumer(node, self.stream(node), "app")
        begun = time.monotonic()
        first = Boto(self, node, consumer, LATEST)
        first.next()
        refusals = []

        def attempt():
            try:
                return Boto(self, node, consumer, LATEST)
            except ClientError as error:
                refusals.append(error.response["Error"]["Code"])
                return None
        second = wait_for(attempt, "the second to take over", 30, step=0.2)
        self.assertGreaterEqual(time.monotonic() - begun, 4.9)
        self.assertGreater(len(refusals), 0)
        self.assertEqual(set(refusals), {"ResourceInUseException"})
        self.assertIn("ResourceInUseException", first.end())
        second.next()
        self.put(node.boto(), b"for the second")
        self.assertEqual(second.data(1)[0], [b"for the second"])
        self.assertEqual(self.ended(node, "taken_over"), 1)
        self.assert_subscribed(node, 1)

    def test_one_who_does_not_read_holds_little_and_delays_nobody(self):
        node = self.node("--http-threads", "1")
        client = node.boto()
        client.create_stream(StreamName="s", StreamModeDetails={"StreamMode": "ON_DEMAND"})
        node.wait_active("s", client)
        arn = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
        # One shard gets it all.
        stuck = [Plain(self, node, self.consumer(node, arn, f"stuck-{i}"), LATEST) for i in range(4)]
        fast = [Boto(self, node, self.consumer(node, arn, f"fast-{i}"), LATEST) for i in range(2)]
        for subscriber in fast:
            subscriber.next()
        texts = [b"%06d" % i + bytes(50_000) for i in range(1000)]
        held = []
        for i in range(0, len(texts), 50):
            batch = texts[i:i + 50]
            while batch:
                answer = client.put_records(StreamName="s", Records=[
                    {"PartitionKey": "k", "ExplicitHashKey": "0", "Data": text} for text in batch])
                # In order, since nothing behind a record that was pushed back is taken.
                batch = [text for text, put in zip(batch, answer["Records"]) if "ErrorCode" in put]
            for subscriber in fast:
                self.assertEqual(subscriber.data(50)[0], texts[i:i + 50])
            held.append(node.metrics().get("penstock_fan_out_held_bytes"))
        # Of 50 MB each: an event in the connection's hands and one or so that waits.
        self.assertLess(max(held), 4 * 4e6)
        for one in stuck:
            found = []
            for message in one.messages():
                event = json.loads(message.payload)
                found += [base64.b64decode(record["Data"])[:6] for record in event.get("Records", ())]
                if len(found) == len(texts):
                    break
            self.assertEqual(found, [text[:6] for text in texts])

    def test_clients_that_leave_and_streams_that_go(self):
        node = self.node()
        arn = self.stream(node)
        leaving = Plain(self, node, self.consumer(node, arn, "leaving"), LATEST)
        staying = Boto(self, node, self.consumer(node, arn, "staying"), LATEST)
        staying.next()
        self.assert_subscribed(node, 2)
        leaving.answer.close()
        leaving.connection.close()
        self.assert_subscribed(node, 1)
        self.assertEqual(self.ended(node, "disconnected"), 1)
        node.boto().delete_stream(StreamName="s", EnforceConsumerDeletion=True)
        self.assertIn("ResourceNotFoundException", staying.end())
        self.assert_subscribed(node, 0)

    def test_after_a_kill_a_client_goes_on_where_it_was(self):
        node = self.node()
        consumer = self.consumer(node, self.stream(node), "app")
        client = node.boto()
        subscriber = JavaScript(self, node.url, consumer, LATEST)
        subscriber.next()
        self.put(client, b"one", b"two")
        got, last = subscriber.data(2)
        self.assertEqual(got, [b"one", b"two"])
        node.kill()
        subscriber.end()
        node.start()
        self.put(node.boto(), b"three")
        again = JavaScript(self, node.url, consumer, {
            "Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": last["ContinuationSequenceNumber"]})
        self.assertEqual(again.data(1)[0], [b"three"])

    def test_a_node_that_stops_ends_its_subscriptions(self):
        node = self.node()
        arn = self.stream(node)
        over_h1 = Boto(self, node, self.consumer(node, arn, "one"), LATEST)
        over_h2 = JavaScript(self, node.url, self.consumer(node, arn, "two"), LATEST)
        over_h1.next()
        over_h2.next()
        self.assertEqual(node.stop(), 0)
        self.assertEqual(over_h1.end(), "")
        self.assertEqual(over_h2.end(), "")

    def test_a_policy_on_the_consumer_decides(self):
        node = self.node(signed="admin")
        arn = self.stream(node)
        mine, theirs = (self.consumer(node, arn, name) for name in ("mine", "theirs"))
        path = os.path.join(node.own, "policy.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"Statement": {"Effect": "Allow", "Action": "kinesis:SubscribeToShard",
                                     "Resource": arn + "/consumer/mine:*"}}, file)
        node.credential = node.make_credential("reader", path)
        Boto(self, node, mine, LATEST).next()
        with self.assertRaises(ClientError) as refused:
            Boto(self, node, theirs, LATEST)
        self.assertEqual(refused.exception.response["Error"]["Code"], "AccessDeniedException")


if __name__ == "__main__":
    main()
