"""REST as a person with curl uses it; every reply held against docs/openapi.json."""

import datetime
import json
import os
import re
import time
import unittest

import jsonschema
from botocore.exceptions import ClientError

from node import ROOT, NodeTest, main, run, wait_for

with open(os.path.join(ROOT, "docs", "openapi.json"), encoding="utf-8") as opened:
    OPENAPI = json.load(opened)
METHODS = {method.upper() for methods in OPENAPI["paths"].values() for method in methods}


class Answer:
    """What curl printed of one reply."""

    def __init__(self, text):
        head, _, self.body = text.replace("\r\n", "\n", 1).partition("\n\n")
        lines = head.replace("\r", "").split("\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value for name, _, value in
                        (line.partition(": ") for line in lines[1:])}
        self.json = json.loads(self.body) if self.body.startswith(("{", "[")) and \
            self.headers["content-type"] == "application/json" else None


def described(method, path):
    """The operation of the description that a request is, or None."""
    for template, methods in OPENAPI["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path.partition("?")[0]):
            return methods.get(method.lower())
    return None


def part(reference):
    found = OPENAPI
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


class RestTest(NodeTest):
    def setUp(self):
        super().setUp()
        self.seen = set()

    def curl(self, node, method, path, *words, credential=None, body=None, kind=None):
        command = ["curl", "-sS", "-i", "--noproxy", "*", "--max-time", "30", "-X", method, *words]
        credential = credential or node.credential
        if credential:
            key = f"{credential['access_key_id']}:{credential['secret_access_key']}"
            command += ["--aws-sigv4", "aws:amz:us-east-1:kinesis", "-u", key]
        if body is not None:
            command += ["--data-binary", body if isinstance(body, str) else json.dumps(body),
                        "-H", f"Content-Type: {kind or 'application/json'}"]
        answer = Answer(run(*command, node.url + path, timeout=60).stdout)
        self.check(method, path, answer)
        return answer

    def check(self, method, path, answer):
        """The reply is one that the description has."""
        for name in ("x-amzn-requestid", "x-amz-id-2"):
            self.assertTrue(answer.headers.get(name), f"{method} {path} has no {name}")
        operation = described(method, path)
        if operation is None:
            self.assertIn(answer.status, (403, 404, 405), path)
            return
        self.seen.add(operation["operationId"])
        reply = operation["responses"].get(str(answer.status))
        self.assertIsNotNone(reply, f"{method} {path} answered {answer.status}: {answer.body[:500]}")
        reply = part(reply["$ref"]) if "$ref" in reply else reply
        kind = answer.headers["content-type"].partition(";")[0]
        self.assertIn(kind, reply["content"], f"{method} {path}")
        schema = {**reply["content"][kind]["schema"], "components": OPENAPI["components"]}
        if kind == "application/json":
            jsonschema.Draft202012Validator(
                schema, format_checker=jsonschema.FormatChecker()).validate(json.loads(answer.body))
        if kind == "application/x-ndjson":
            for line in answer.body.splitlines():
                jsonschema.Draft202012Validator(schema).validate(json.loads(line))

    def get(self, node, path):
        answer = self.curl(node, "GET", path)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json

    def make_stream(self, node, name, **more):
        made = self.curl(node, "POST", "/v1/streams", body={"stream_name": name, **more})
        self.assertEqual((made.status, made.headers["location"]), (201, "/v1/streams/" + name))
        wait_for(lambda: self.get(node, "/v1/streams/" + name)["stream_status"] == "ACTIVE",
                 f"stream {name} to be ACTIVE")


class Description(unittest.TestCase):
    def test_the_description_is_sound(self):
        for schema in OPENAPI["components"]["schemas"].values():
            jsonschema.Draft202012Validator.check_schema(schema)
        self.assertTrue(OPENAPI["openapi"].startswith("3.1."))
        ids = [operation["operationId"] for methods in OPENAPI["paths"].values()
               for operation in methods.values()]
        self.assertEqual(len(ids), len(set(ids)))
        for path, methods in OPENAPI["paths"].items():
            for operation in methods.values():
                named = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
                self.assertEqual(named, set(re.findall(r"\{(\w+)\}", path)))


class WithCurl(RestTest):
    def walk(self, node):
        """Everything a person would do, once."""
        self.assertEqual(self.get(node, "/v1/streams"), {"streams": []})
        self.make_stream(node, "s", shard_count=1, tags={"team": "x"})
        records = "/v1/streams/s/records"
        before = time.time()
        one = self.curl(node, "POST", records + "?partition_key=p1", body='{"t": 21.5}')
        self.assertEqual((one.status, one.json["shard_id"]), (200, "shardId-000000000000"))
        raw = self.curl(node, "POST", records, "-H", "x-penstock-partition-key: p2", body="plain",
                        kind="application/x-www-form-urlencoded")
        self.assertEqual(raw.status, 200, raw.body)
        lines = '{"data":{"t":3},"partition_key":"p3"}\n{"data_base64":"/w==","partition_key":"p4"}\n'
        self.assertEqual(self.curl(node, "POST", records, body=lines,
                                   kind="application/x-ndjson").json["failed_record_count"], 0)
        self.assertEqual(self.curl(node, "POST", records, body={"records": [
            {"data": "five", "partition_key": "p5"}]}).status, 200)
        page = self.get(node, records + "?limit=2&shard_id=0")
        self.assertEqual([record["data"] for record in page["records"]], ['{"t": 21.5}', "plain"])
        arrived = datetime.datetime.fromisoformat(
            page["records"][0]["approximate_arrival_timestamp"].replace("Z", "+00:00"))
        self.assertAlmostEqual(arrived.timestamp(), before, delta=60)
        self.assertEqual(page["records"][0]["sequence_number"], one.json["sequence_number"])
        page = self.get(node, page["next"])
        self.assertEqual([record.get("data", record.get("data_base64")) for record in page["records"]],
                         ['{"t":3}', "/w=="])
        lined = self.curl(node, "GET", page["next"], "-H", "Accept: application/x-ndjson")
        self.assertEqual(json.loads(lined.body)["data"], "five")
        self.assertRegex(lined.headers["link"], r'^</v1/streams/s/records\?\S+>; rel="next"$')
        later = self.get(node, f"{records}?sequence_number={one.json['sequence_number']}&shard_id=0")
        self.assertEqual(len(later["records"]), 4)
        self.assertEqual(len(self.get(
            node, f"{records}?shard_id=0&timestamp={before - 1:.3f}")["records"]), 5)
        # What boto3 sees is the same.
        self.assertEqual(node.boto().describe_stream_summary(StreamName="s")
                         ["StreamDescriptionSummary"]["OpenShardCount"], 1)
        self.change(node)

    def change(self, node):
        path = "/v1/streams/s"
        for hours in (48, 24):
            self.assertEqual(self.curl(node, "PUT", path + "/retention",
                                       body={"retention_period_hours": hours}).status, 200)
            self.assertEqual(self.get(node, path + "/retention"), {"retention_period_hours": hours})
        active = lambda: self.get(node, path)["stream_status"] == "ACTIVE"
        for way in ("split", "merge", "shards"):
            changed = {
                "split": lambda: self.curl(node, "POST", path + "/shards/0/split",
                                           body={"new_starting_hash_key": "170141183460469231731687303715884105728"}),
                "merge": lambda: self.curl(node, "POST", path + "/shards/1/merge",
                                           body={"adjacent_shard_to_merge": "shardId-000000000002"}),
                "shards": lambda: self.curl(node, "PUT", path + "/shards", body={"target_shard_count": 2}),
            }[way]()
            self.assertEqual(changed.status, 202, changed.body)
            wait_for(active, f"{way} to be done")
        self.assertEqual(self.get(node, path)["open_shard_count"], 2)
        first = self.get(node, path + "/shards?max_results=4")
        rest = self.get(node, first["next"])
        self.assertEqual(len(first["shards"]) + len(rest["shards"]),
                         len(self.get(node, path + "/shards")["shards"]))
        end = self.get(node, path + "/records?shard_id=0")
        self.assertEqual(len(end["child_shards"]), 2)
        self.assertNotIn("next", end)
        self.assertEqual(self.curl(node, "PUT", path + "/mode", body={"stream_mode": "ON_DEMAND"}).status, 200)
        wait_for(active, "the mode to change")
        self.assertEqual(self.get(node, path + "/mode"), {"stream_mode": "ON_DEMAND"})
        made = self.curl(node, "POST", path + "/consumers", body={"consumer_name": "c"})
        self.assertEqual((made.status, made.headers["location"]), (201, path + "/consumers/c"))
        for place in (path + "/consumers", "/v1/consumers"):
            self.assertEqual([one["consumer_name"] for one in self.get(node, place)["consumers"]], ["c"])
        self.assertEqual(self.get(node, path + "/consumers/c")["consumer_status"], "ACTIVE")
        self.assertEqual(self.curl(node, "DELETE", path).status, 409)
        self.assertEqual(self.curl(node, "DELETE", path + "/consumers/c").status, 200)
        self.assertEqual(self.curl(node, "DELETE", path + "/consumers/c").status, 404)
        self.refuse(node)
        self.assertEqual(self.curl(node, "DELETE", path + "?enforce_consumer_deletion=true").status, 202)
        wait_for(lambda: self.curl(node, "GET", path).status == 404, "the stream to be gone")

    def refuse(self, node):
        for method, path, body, status, words in (
                ("GET", "/v1/streams?limit=many", None, 400, "limit: expected a whole number, found 'many'"),
                ("POST", "/v1/streams", {"name": "x"}, 400, "the body: found 'name'; expected stream_name,"),
                ("POST", "/v1/streams", {"stream_name": "a b"}, 400, "Value 'a b' at 'streamName'"),
                ("POST", "/v1/streams", {"stream_name": "s", "shard_count": 1}, 409, "already exists"),
                ("GET", "/v1/streams/none/shards", None, 404, "Stream none under account"),
                ("GET", "/v1/streams/s/records", None, 400, "shard_id: not given"),
                ("GET", "/v1/streams/s/records?shard_iterator=AAAA", None, 400, "Invalid ShardIterator."),
                ("POST", "/v1/streams/s/records", {"records": [{"data": 1}] * 501}, 400,
                 "length less than or equal to 500"),
                ("PUT", "/v1/streams/s/retention", {"retention_period_hours": 1}, 400, "Minimum allowed"),
                ("PUT", "/v1/streams/s/consumers", None, 405, "expected GET, POST"),
                ("GET", "/v1/nothing", None, 404, "/v1/openapi.json"),
                ("POST", "/v1/node", None, 405, "expected GET")):
            answer = self.curl(node, method, path, body=body)
            self.assertEqual(answer.status, status, path + answer.body)
            self.assertIn(words, answer.json["message"])
            self.assertEqual(answer.body.count("\n"), 1)

    def test_signed_with_aws_sigv4_everything_works_as_described(self):
        node = self.node(signed="admin")
        self.walk(node)
        shown = self.get(node, "/v1/node")
        self.assertTrue(shown["is_ready"])
        self.assertEqual(len(self.get(node, "/v1/replicas")["replicas"]), 3)
        self.credentials(node)
        self.assertEqual(self.curl(node, "POST", "/v1/capture", body={"seconds": 5}).json, {"seconds": 5})
        self.assertEqual(self.curl(node, "DELETE", "/v1/capture").status, 200)
        self.assertEqual(self.curl(node, "GET", "/v1/capture").status, 404)
        for path in ("/metrics", "/healthz", "/readyz"):
            self.assertEqual(self.curl(node, "GET", path).status, 200)
        self.assertEqual(self.get(node, "/v1/openapi.json"), OPENAPI)
        self.assertEqual(self.seen, {operation["operationId"] for methods in OPENAPI["paths"].values()
                                     for operation in methods.values()})
        requests = node.metrics()
        self.assertGreater(requests.get("penstock_http_requests_total", operation="PutRecord", code="200"), 1)
        self.assertEqual(requests.get("penstock_http_requests_total", operation="DeleteStream", code="202"), 1)

    def credentials(self, node):
        path = "/v1/credentials"
        streams = "arn:aws:kinesis:*:*:stream/"
        made = self.curl(node, "POST", path, body={"name": "reader", "policy": {"Statement": [
            {"Effect": "Allow", "Action": ["kinesis:Describe*"], "Resource": streams + "*"}]}})
        self.assertEqual(made.status, 201, made.body)
        self.assertEqual(len(self.get(node, path)["credentials"]), 2)
        self.assertEqual(self.curl(node, "GET", "/v1/streams/none", credential=made.json).status, 404)
        denied = self.curl(node, "DELETE", "/v1/streams/none", credential=made.json)
        self.assertEqual((denied.status, denied.json["__type"]), (403, "AccessDeniedException"))
        self.assertEqual(self.curl(node, "GET", path, credential=made.json).status, 403)
        self.assertEqual(self.curl(node, "GET", "/v1/node", credential=made.json).status, 403)
        fresh = self.curl(node, "POST", path + "/reader/rotate", body={"keep_old_s": 0})
        self.assertEqual(self.curl(node, "GET", "/v1/streams/none", credential=made.json).status, 403)
        self.assertEqual(self.curl(node, "GET", "/v1/streams/none", credential=fresh.json).status, 404)
        self.assertEqual(self.curl(node, "PUT", path + "/reader/policy", body={"Statement": []}).status, 200)
        self.assertEqual(self.curl(node, "GET", "/v1/streams/none", credential=fresh.json).status, 403)
        self.assertEqual(self.curl(node, "POST", path + "/reader/sessions", body={"seconds": 60}).status, 201)
        self.assertEqual(self.get(node, path + "/reader")["name"], "reader")
        self.assertEqual(self.curl(node, "DELETE", path + "/reader").status, 200)
        self.assertEqual(self.curl(node, "GET", path + "/reader").status, 404)

    def test_unsigned_it_answers_programs_of_this_machine_alone(self):
        node = self.node()
        self.walk(node)
        for words in (("-H", "Origin: http://example.org"), ("-H", "Host: example.org")):
            done = run("curl", "-sS", "-i", "--noproxy", "*", *words, node.url + "/v1/streams")
            answer = Answer(done.stdout)
            self.assertEqual(answer.status, 403)
            self.assertTrue(answer.headers["x-amzn-requestid"])
            self.assertTrue(answer.headers["x-amz-id-2"])
        for words in (("-X", "NO METHOD"), ("--http2-prior-knowledge", "-H", "Expect: more")):
            answer = Answer(run("curl", "-sS", "-i", "--noproxy", "*", *words, node.url + "/").stdout)
            self.assertIn(answer.status, (400, 417))
            self.assertTrue(answer.headers["x-amzn-requestid"])

    def test_a_page_of_another_origin_is_answered_as_aws_does(self):
        node = self.node(signed="admin")
        for path in ("/", "/v1/streams", "/v1/node"):
            done = run("curl", "-sS", "-i", "--noproxy", "*", "-X", "OPTIONS", "-H", "Origin: http://example.org",
                       "-H", "Access-Control-Request-Method: PUT",
                       "-H", "Access-Control-Request-Headers: authorization,x-amz-date", node.url + path)
            answer = Answer(done.stdout)
            self.assertEqual(answer.status, 200, path)
            self.assertEqual(answer.headers["access-control-allow-origin"], "*")
            self.assertEqual(answer.headers["access-control-allow-methods"], "PUT")
            self.assertEqual(answer.headers["access-control-allow-headers"], "authorization,x-amz-date")
            self.assertEqual(answer.headers["access-control-max-age"], "172800")
            self.assertTrue(answer.headers["x-amzn-requestid"])
        # The reply itself, and what refuses it.
        for credential, status in ((node.credential, 200),
                                   ({**node.credential, "secret_access_key": "wrong"}, 403)):
            answer = self.curl(node, "GET", "/v1/streams", "-H", "Origin: http://example.org",
                               credential=credential)
            self.assertEqual(answer.status, status)
            self.assertEqual(answer.headers["access-control-allow-origin"], "*")
            self.assertIn("x-amzn-RequestId", answer.headers["access-control-expose-headers"])

    def test_rate_limits_are_those_of_aws_when_they_are_on(self):
        node = self.node("--rate-limits", "aws")
        # Five a second; so many are soon asked for, however slow the machine is.
        status, body = next((reply for reply in (node.http("/v1/streams") for _ in range(2000))
                             if reply[0] != 200), (None, None))
        self.assertEqual(status, 429)
        self.assertEqual(json.loads(body), {"__type": "LimitExceededException",
                                            "message": "Rate exceeded for account 000000000000."})
        self.assertEqual(node.metrics().get("penstock_rate_limit_refused_total", operation="ListStreams"), 1)
        client = node.boto()
        with self.assertRaises(ClientError) as caught:
            for _ in range(2000):
                client.describe_limits()
        self.assertEqual(caught.exception.response["Error"]["Code"], "LimitExceededException")


if __name__ == "__main__":
    main()
