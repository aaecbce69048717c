"""Debian's AWS CLI, as a person uses it: every operation once, what mistakes answer, and what the README says."""

import base64
import json
import os
import re
import shutil
import unittest

from node import AWS, BINARY, ROOT, NodeTest, client_environment, main, run


class AwsCli(NodeTest):
    def test_every_operation(self):
        node = self.node()
        node.aws("create-stream", "--stream-name", "words", "--shard-count", "2")
        node.wait_active("words")
        self.assertEqual(node.aws("list-streams")["StreamNames"], ["words"])
        described = node.aws("describe-stream", "--stream-name", "words")["StreamDescription"]
        self.assertEqual([s["ShardId"] for s in described["Shards"]],
                         ["shardId-000000000000", "shardId-000000000001"])
        self.assertEqual(described["RetentionPeriodHours"], 24)
        summary = node.aws("describe-stream-summary", "--stream-name", "words")
        self.assertEqual(summary["StreamDescriptionSummary"]["OpenShardCount"], 2)
        arn = summary["StreamDescriptionSummary"]["StreamARN"]
        self.assertEqual(len(node.aws("list-shards", "--stream-arn", arn)["Shards"]), 2)

        put = node.aws("put-record", "--stream-name", "words", "--partition-key", "k", "--data",
                       base64.b64encode(b"one").decode())
        self.assertRegex(put["SequenceNumber"], r"^\d{56}$")
        path = os.path.join(node.own, "records.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump([{"Data": base64.b64encode(word).decode(), "PartitionKey": "k"}
                       for word in (b"two", b"three")], file)
        puts = node.aws("put-records", "--stream-name", "words", "--records", f"file://{path}")
        self.assertEqual(puts["FailedRecordCount"], 0)
        self.assertEqual({p["ShardId"] for p in puts["Records"]}, {put["ShardId"]})

        for kind, more, expected in (
                ("TRIM_HORIZON", [], [b"one", b"two", b"three"]),
                ("AT_SEQUENCE_NUMBER", ["--starting-sequence-number", put["SequenceNumber"]],
                 [b"one", b"two", b"three"]),
                ("AFTER_SEQUENCE_NUMBER", ["--starting-sequence-number", put["SequenceNumber"]],
                 [b"two", b"three"]),
                ("AT_TIMESTAMP", ["--timestamp", "2020-01-01"], [b"one", b"two", b"three"]),
                ("LATEST", [], [])):
            iterator = node.aws("get-shard-iterator", "--stream-name", "words", "--shard-id",
                                put["ShardId"], "--shard-iterator-type", kind, *more)
            records = node.aws("get-records", "--shard-iterator", iterator["ShardIterator"])
            self.assertEqual([base64.b64decode(r["Data"]) for r in records["Records"]], expected,
                             kind)

        node.aws("increase-stream-retention-period", "--stream-name", "words",
                 "--retention-period-hours", "48")
        self.assertEqual(node.aws("describe-stream", "--stream-name", "words")
                         ["StreamDescription"]["RetentionPeriodHours"], 48)
        node.aws("decrease-stream-retention-period", "--stream-name", "words",
                 "--retention-period-hours", "24")
        node.aws("delete-stream", "--stream-name", "words")
        self.assertEqual(node.aws("list-streams")["StreamNames"], [])

    def test_the_readme_says_what_works_with_each_aws_cli(self):
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            commands = re.search(r"^```\n(eval .*?)^```\n", file.read(), re.S | re.M)[1]
        node = self.node(signed="root")
        address = f"127.0.0.1:{node.http_port}"
        environment = {name: value for name, value in client_environment().items()
                       if not name.startswith("AWS_") or name in ("AWS_CONFIG_FILE", "AWS_PAGER",
                                                                  "AWS_SHARED_CREDENTIALS_FILE")}
        for number, aws in enumerate(sorted({AWS, shutil.which("aws")} - {None})):
            script = commands.replace("build/penstock", BINARY)
            for said, meant in (("127.0.0.1:4567", address), ("aws kinesis", f"{aws} kinesis"),
                                ("make me", f"make me-{number} --http {address}"),
                                ("name syslog", f"name syslog-{number}")):
                self.assertIn(said, script)
                script = script.replace(said, meant)
            done = run("bash", "-ec", script, env=environment, timeout=120)
            self.assertTrue(done.stdout.endswith("}\nhello\n"), (aws, done.stdout))

    def test_mistakes_answer_as_kinesis_does(self):
        node = self.node()
        node.create_stream("s", 1)
        for error, words in (
                ("ResourceNotFoundException", ["describe-stream", "--stream-name", "none"]),
                ("ResourceInUseException",
                 ["create-stream", "--stream-name", "s", "--shard-count", "1"]),
                ("ValidationException",
                 ["create-stream", "--stream-name", "not a name", "--shard-count", "1"]),
                ("InvalidArgumentException",
                 ["increase-stream-retention-period", "--stream-name", "s",
                  "--retention-period-hours", "9000"]),
                ("ResourceNotFoundException",
                 ["get-shard-iterator", "--stream-name", "s", "--shard-id", "shardId-000000000007",
                  "--shard-iterator-type", "LATEST"]),
                ("InvalidArgumentException", ["get-records", "--shard-iterator", "AAAA"])):
            with self.subTest(words=words):
                done = node.aws(*words, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(f"({error})", done.stderr)


if __name__ == "__main__":
    main()
