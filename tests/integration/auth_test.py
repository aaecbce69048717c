"""Who is let in: signatures of real clients, credentials, policies, and what each refusal is called."""

import contextlib
import datetime
import glob
import http.client
import importlib
import json
import os
import random
import shutil
import socket
import string
import subprocess
import threading
import time
import types
import unittest
import urllib.parse
import urllib.request
from unittest import mock

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from botocore.exceptions import ClientError

from node import (BINARY, LabError, NodeTest, client_environment, javascript, main, penstock,
                  read_stream, run, wait_for)

STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/"
NOBODY = 65534


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": effect, "Action": actions, "Resource": resources}
        for effect, actions, resources in statements]})


@contextlib.contextmanager
def clock_at(seconds):
    """botocore's clock differs from ours by so much; with and without AWS' common runtime."""
    class Clock(datetime.datetime):
        @classmethod
        def utcnow(cls):
            return datetime.datetime.utcnow() + datetime.timedelta(seconds=seconds)
    shown = types.SimpleNamespace(**dict(vars(datetime), datetime=Clock))
    with contextlib.ExitStack() as stack:
        for name in ("botocore.auth", "botocore.crt.auth"):
            with contextlib.suppress(ImportError):
                stack.enter_context(mock.patch.object(importlib.import_module(name), "datetime", shown))
        yield


class AuthTest(NodeTest):
    def signed_node(self, *arguments, **kwargs):
        return self.node(*arguments, signed="admin", **kwargs)

    def credential(self, node, name, *statements):
        """A new one whose policy comes from a file, as a person would give it."""
        path = os.path.join(node.own, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(policy(*statements))
        return node.make_credential(name, path)

    def send(self, node, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def kinesis(self, node, operation, body, credential=None, sent_body=None, **more):
        """(status, exception or None) of one operation, signed by botocore."""
        body = json.dumps(body)
        headers = {"Content-Type": "application/x-amz-json-1.1",
                   "X-Amz-Target": "Kinesis_20131202." + operation}
        headers.update(more)
        headers = node.signed_headers("POST", "/", body, headers, credential)
        status, answer = self.send(node, "POST", "/", sent_body or body, headers)
        answer = json.loads(answer) if answer else {}
        return status, answer.get("__type"), answer.get("message")

    def refused(self, node, reason):
        return node.metrics().get("penstock_auth_refused_total", reason=reason)

    def assert_code(self, code, call, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)


class Clients(AuthTest):
    def test_cli_boto3_and_curl_get_in_with_a_credential_and_only_so(self):
        node = self.signed_node()
        node.aws("create-stream", "--stream-name", "s", "--shard-count", "2")
        node.wait_active("s")
        client = node.boto()
        client.put_record(StreamName="s", PartitionKey="k", Data=os.urandom(900_000))
        # Every encoding of a body: keys and names beyond ASCII.
        client.put_record(StreamName="s", PartitionKey="schlüssel ☃", Data=b"")
        self.assertEqual(len(client.list_shards(StreamName="s")["Shards"]), 2)
        for aws in {shutil.which("aws"), "/usr/bin/aws"} - {None}:   # a newer one where there is one
            done = run(aws, "kinesis", "list-streams", "--endpoint-url", node.url, "--output", "json",
                       env=client_environment(node.credential), timeout=60)
            self.assertEqual(json.loads(done.stdout)["StreamNames"], ["s"])
        key = f"{node.credential['access_key_id']}:{node.credential['secret_access_key']}"
        curl = ["curl", "-s", "--noproxy", "*", "--aws-sigv4", "aws:amz:us-east-1:kinesis"]
        done = run(*curl, "-u", key, "-H", "Content-Type: application/x-amz-json-1.1",
                   "-H", "X-Amz-Target: Kinesis_20131202.DescribeStreamSummary",
                   "-d", '{"StreamName":"s"}', node.url + "/")
        self.assertIn('"OpenShardCount":2', done.stdout)
        self.assertIn("penstock_build_info", run(*curl, "-u", key, node.url + "/metrics").stdout)
        done = run(*curl, "-u", "AKIANOBODY:secret", node.url + "/metrics")
        self.assertIn("UnrecognizedClientException", done.stdout)
        # Health is for anybody, everything else for nobody without a signature.
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 403),
                             ("/v1/replicas", 403), ("/v1/credentials", 403),
                             ("/v1/credentials/admin", 403), ("/v1/capture", 403)):
            self.assertEqual(self.send(node, "GET", path, None, {})[0], status, path)

    def test_the_javascript_sdk_is_understood_over_http2(self):
        # It signs the literal name :authority, and a session's token.
        node = self.signed_node()
        session = json.loads(node.credentials("session", "admin", "--json").stdout)
        for number, credential in enumerate((node.credential, session)):
            found = javascript("kinesis.js", node.url, f"words-{number}",
                               **{k: v for k, v in client_environment(credential).items()
                                  if k.startswith("AWS_")})
            self.assertEqual(found["listed"], 20)
            self.assertEqual(found["refused"], "ResourceNotFoundException")
        self.assertGreater(node.metrics().get("penstock_http_requests_received_total", protocol="h2"), 40)
        with self.assertRaisesRegex(LabError, "InvalidSignatureException"):
            javascript("kinesis.js", node.url, "words", AWS_ACCESS_KEY_ID=session["access_key_id"],
                       AWS_SECRET_ACCESS_KEY="wrong", AWS_SESSION_TOKEN=session["session_token"])

    def test_what_a_wrong_client_is_told(self):
        node = self.signed_node()
        admin = node.credential
        right = {"StreamName": "none"}
        self.assertEqual(self.kinesis(node, "DescribeStream", right)[1], "ResourceNotFoundException")
        status, kind, message = self.kinesis(node, "DescribeStream", right,
                                             dict(admin, access_key_id="AKIANOBODY"))
        self.assertEqual((status, kind), (400, "UnrecognizedClientException"))
        self.assertEqual(message, "The security token included in the request is invalid.")
        status, kind, message = self.kinesis(node, "DescribeStream", right,
                                             dict(admin, secret_access_key="wrong"))
        self.assertEqual((status, kind), (400, "InvalidSignatureException"))
        self.assertTrue(message.startswith("The request signature we calculated does not match"))
        status, kind, _ = self.kinesis(node, "DescribeStream", right, sent_body='{"StreamName":"b"}')
        self.assertEqual((status, kind), (400, "InvalidSignatureException"))
        self.assertEqual(self.send(node, "POST", "/", "{}", {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "Kinesis_20131202.ListStreams"})[1],
            b'{"__type":"MissingAuthenticationTokenException",'
            b'"message":"Missing Authentication Token"}')
        with mock.patch.dict(admin, session_token="AAAA"):
            self.assertEqual(self.kinesis(node, "DescribeStream", right)[1],
                             "UnrecognizedClientException")
        # A captured request whose headers are changed, or whose target is.
        body = json.dumps(right)
        headers = node.signed_headers("POST", "/", body, {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "Kinesis_20131202.DescribeStream"})
        for change in ({"X-Amz-Target": "Kinesis_20131202.DeleteStream"},
                       {"X-Amz-Date": "20200101T000000Z"}, {"Host": "elsewhere"},
                       {"X-Amz-Unsigned": "a"}, {"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"},
                       {"Authorization": headers["Authorization"].replace("us-east-1", "eu-west-1")},
                       {"Authorization": headers["Authorization"].replace("kinesis", "s3")}):
            status, answer = self.send(node, "POST", "/", body, dict(headers, **change))
            self.assertEqual((status, json.loads(answer)["__type"]),
                             (400, "InvalidSignatureException"), change)
        status, answer = self.send(node, "POST", "/", body,
                                   dict(headers, Authorization="AWS4-HMAC-SHA256 Credential=a"))
        self.assertEqual(json.loads(answer)["__type"], "IncompleteSignatureException")
        # The request itself was fine all along.
        status, answer = self.send(node, "POST", "/", body, headers)
        self.assertEqual(json.loads(answer)["__type"], "ResourceNotFoundException")
        for reason in ("missing", "incomplete", "unknown_key", "bad_token", "wrong_scope",
                       "not_signed", "mismatch"):
            self.assertGreaterEqual(self.refused(node, reason), 1, reason)

    def test_a_clock_may_be_off_by_five_minutes(self):
        node = self.signed_node()
        client = node.boto()
        for minutes, code in ((-4, None), (4, None), (-6, "Signature expired: "),
                              (6, "Signature not yet current: ")):
            with clock_at(minutes * 60):
                if code is None:
                    client.list_streams()
                    continue
                with self.assertRaises(ClientError) as caught:
                    client.list_streams()
            error = caught.exception.response["Error"]
            self.assertEqual(error["Code"], "InvalidSignatureException")
            self.assertTrue(error["Message"].startswith(code), error["Message"])
            self.assertIn("5 min.)", error["Message"])
        self.assertEqual((self.refused(node, "late"), self.refused(node, "early")), (1, 1))

    def presigned(self, node, path, expires, credential=None, age_s=0):
        credential = credential or node.credential
        request = botocore.awsrequest.AWSRequest(method="GET", url=node.url + path)
        keys = botocore.credentials.Credentials(credential["access_key_id"],
                                                credential["secret_access_key"],
                                                credential.get("session_token"))
        with clock_at(-age_s):
            botocore.auth.SigV4QueryAuth(keys, "kinesis", "us-east-1", expires=expires).add_auth(request)
        return request.prepare().url[len(node.url):]

    def test_a_presigned_address_is_good_for_as_long_as_it_says(self):
        node = self.signed_node()
        path = self.presigned(node, "/metrics?b=2&a=%20%C3%A4", 3600, age_s=1800)
        status, answer = self.send(node, "GET", path, None, {})
        self.assertEqual(status, 200, answer)
        self.assertIn(b"penstock_build_info", answer)
        for other in (path.replace("b=2", "b=3"), path + "&c=1", path.replace("/metrics", "/v1/replicas"),
                      path.replace("Expires=3600", "Expires=36000"),
                      self.presigned(node, "/metrics", 60, age_s=61),
                      self.presigned(node, "/metrics", 60, dict(node.credential,
                                                                secret_access_key="x"))):
            status, answer = self.send(node, "GET", other, None, {})
            self.assertEqual((status, json.loads(answer)["__type"]),
                             (403, "InvalidSignatureException"), other)
        self.assertEqual(self.refused(node, "late"), 1)
        session = json.loads(node.credentials("session", "admin", "--json").stdout)
        self.assertEqual(self.send(node, "GET", self.presigned(node, "/metrics", 60, session),
                                   None, {})[0], 200)

    def test_any_request_that_botocore_signs_is_understood(self):
        node = self.signed_node()
        seed = int.from_bytes(os.urandom(4), "little")
        rng = random.Random(seed)
        text = string.ascii_letters + string.digits + string.punctuation.replace("#", "") + " "
        connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=10)
        self.addCleanup(connection.close)
        for number in range(300):
            query = "&".join(
                urllib.parse.quote("".join(rng.choices(text + "äß☃", k=rng.randrange(1, 8))), safe="")
                + "=" + urllib.parse.quote("".join(rng.choices(text + "é", k=rng.randrange(8))), safe="")
                for _ in range(rng.randrange(5)))
            path = "/v1/credentials" + ("?" + query if query else "")
            headers = {}
            for _ in range(rng.randrange(5)):
                headers["x-" + "".join(rng.choices(string.ascii_letters + "-", k=5)) + "z"] = \
                    "".join(rng.choices(text + "   \t", k=rng.randrange(20))).strip()
            headers = node.signed_headers("GET", path, headers=headers)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            self.assertEqual(answer.status, 200, (seed, number, path, headers, body))


class Credentials(AuthTest):
    def test_made_ones_outlive_kill_and_restart_and_are_shown_nowhere(self):
        node = self.signed_node()
        node.create_stream("s", 1)
        other = node.make_credential("other", "write")
        session = json.loads(node.credentials("session", "other", "--json").stdout)
        rotated = json.loads(node.credentials("rotate", "other", "--json").stdout)
        self.assertEqual(os.stat(node.key_file).st_mode & 0o777, 0o600)
        node.kill()
        node.start()
        for credential in (other, session, rotated):
            node.boto(credential).put_record(StreamName="s", PartitionKey="k", Data=b"d")
        self.assertEqual(node.stop(), 0)
        secrets = [c["secret_access_key"] for c in (node.credential, other, session, rotated)]
        secrets.append(session["session_token"])
        with open(node.key_file, encoding="ascii") as file:
            secrets.append(file.read().strip())
        shown = node.log() + "".join(
            penstock("inspect", *words, node.data[0]).stdout
            for words in ((), ("catalog",), ("catalog", "--json"), ("verify",)))
        self.assertIn("credential/other", shown)
        self.assertIn("(sealed, ", shown)
        for secret in secrets:
            self.assertNotIn(secret, shown)
            self.assertNotIn(urllib.parse.quote(secret), shown)
        for name in glob.glob(os.path.join(node.data[0], "*", "state-0-*")):
            with open(name, "rb") as file:
                content = file.read()
            for secret in secrets:
                self.assertNotIn(secret.encode(), content, name)

    def test_a_wrong_or_missing_key_file_is_one_line_and_loses_nothing(self):
        node = self.signed_node()
        node.create_stream("s", 1)
        self.assertEqual(node.stop(), 0)
        away = node.key_file + ".away"
        os.rename(node.key_file, away)

        def last_line(said):
            process = subprocess.run(node.command(), capture_output=True, text=True, timeout=60,
                                     check=False)
            self.assertEqual(process.returncode, 1)
            errors = [line for line in process.stderr.splitlines()
                      if line.startswith("penstock serve: ")]
            self.assertEqual(len(errors), 1, process.stderr)
            self.assertIn(node.key_file, errors[0])
            self.assertIn(said, errors[0])
        last_line("bring the file back")
        self.assertFalse(os.path.exists(node.key_file))
        with open(node.key_file, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write("0" * 64)
        last_line("this is not the key that sealed this set's credentials")
        os.chmod(node.key_file, 0o644)
        last_line("chmod 600")
        os.replace(away, node.key_file)
        node.start()
        self.assertEqual(node.boto().list_streams()["StreamNames"], ["s"])
        # Lost for good: the streams are still there, the credentials have to be made anew.
        node.stop()
        os.remove(node.key_file)
        node.credential = None
        node.start("--discard-credentials")
        self.assertEqual(node.boto().list_streams()["StreamNames"], ["s"])

    def test_a_key_file_of_no_use_is_refused_before_a_set_is_made(self):
        node = self.node(start=False)
        malformed, directory = os.path.join(node.own, "malformed"), os.path.join(node.own, "key.d")
        with open(malformed, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write("0" * 63)
        os.mkdir(directory)
        for path, why in ((os.path.join(node.data[0], "key"), "outside the data directories"),
                          (malformed, "expected 64 hexadecimal digits"),
                          (directory, "expected a regular file"),
                          (os.path.join(node.own, "a", "b", "key"), "none can be made")):
            done = penstock("serve", "--data", node.data[0], "--http", "127.0.0.1:0", "--key-file", path)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(f"--key-file {path}: ", done.stderr.splitlines()[-1])
            self.assertIn(why, done.stderr.splitlines()[-1])
            self.assertEqual(os.listdir(node.data[0]), [], path)

    def test_a_revoked_one_is_out_with_the_next_request(self):
        node = self.signed_node()
        other = node.make_credential("other", "admin")
        session = json.loads(node.credentials("session", "other", "--json").stdout)
        clients = [node.boto(other), node.boto(session)]   # each keeps its connection
        for client in clients:
            client.list_streams()
        node.credentials("revoke", "other")
        self.assert_code("UnrecognizedClientException", clients[0].list_streams)
        self.assert_code("UnrecognizedClientException", clients[1].list_streams)
        self.assertIn("no credential 'other'", node.credentials("show", "other", check=False).stderr)
        # Made again under the same name it is another one.
        node.make_credential("other", "admin")
        for client in clients:
            self.assert_code("UnrecognizedClientException", client.list_streams)

    def test_requests_under_way_while_keys_change_see_the_old_or_the_new(self):
        node = self.signed_node("--http-threads", "2")
        current = node.make_credential("busy", "admin")
        stop, problems, counts = threading.Event(), [], [0, 0]

        def ask(number):
            while not stop.is_set():
                mine = current
                try:
                    node.boto(mine).list_streams()
                    counts[number] += 1
                except ClientError as error:
                    if mine is current:
                        problems.append(error)
        threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                before = list(counts)
                wait_for(lambda: all(c > b for c, b in zip(counts, before)), "requests", 30)
                current = json.loads(node.credentials("rotate", "busy", "--json").stdout)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        self.assertEqual(problems, [])

    def test_rotated_without_mercy_the_old_key_is_out_at_once(self):
        node = self.signed_node()
        old = node.make_credential("other", "admin")
        kept = json.loads(node.credentials("rotate", "other", "--json").stdout)
        node.boto(old).list_streams()
        new = json.loads(node.credentials("rotate", "other", "--keep-old", "0", "--json").stdout)
        node.boto(new).list_streams()
        for gone in (old, kept):
            self.assert_code("UnrecognizedClientException", node.boto(gone).list_streams)

    def test_a_session_ends_by_itself(self):
        node = self.signed_node()
        session = json.loads(node.credentials("session", "admin", "--seconds", "60", "--json").stdout)
        client = node.boto(session)
        client.list_streams()
        self.assertLess(session["expires_ms"], (time.time() + 61) * 1000)
        without = dict(session, session_token=None)
        self.assert_code("UnrecognizedClientException", node.boto(without).list_streams)
        narrow = os.path.join(node.own, "narrow.json")
        with open(narrow, "w", encoding="utf-8") as file:
            file.write(policy(("Allow", "kinesis:DescribeLimits", "*")))
        session = json.loads(node.credentials("session", "admin", "--policy", narrow, "--json").stdout)
        self.assert_code("AccessDeniedException", node.boto(session).list_streams)

    def test_rest_does_what_the_command_does_and_asks_for_the_right(self):
        node = self.signed_node()
        limited = self.credential(node, "limited", ("Allow", "penstock:ListCredentials", "*"))

        def rest(method, path, body=None, credential=None):
            data = None if body is None else json.dumps(body)
            headers = node.signed_headers(method, path, data, {}, credential)
            status, answer = self.send(node, method, path, data, headers)
            return status, json.loads(answer)
        everything = json.loads(policy(("Allow", "*", "*")))
        status, made = rest("POST", "/v1/credentials", {"name": "rest", "policy": everything})
        self.assertEqual(status, 201)
        self.assertEqual(rest("GET", "/v1/credentials/rest")[1]["policy"], everything)
        self.assertEqual(rest("POST", "/v1/credentials", {"name": "rest", "policy": everything})[0], 409)
        self.assertEqual(rest("POST", "/v1/credentials", {"name": "x", "policy": {}})[0], 400)
        self.assertEqual(rest("POST", "/v1/credentials", {"name": "x y", "policy": everything})[0], 400)
        self.assertEqual(rest("POST", "/v1/credentials", {"nom": "x"})[0], 400)
        self.assertEqual(rest("PATCH", "/v1/credentials", {})[0], 405)
        self.assertEqual(rest("DELETE", "/v1/credentials/none")[0], 404)
        status, all_of_them = rest("GET", "/v1/credentials", credential=limited)
        self.assertEqual([c["name"] for c in all_of_them["credentials"]], ["admin", "limited", "rest"])
        self.assertNotIn("secret", json.dumps(all_of_them))
        for method, path in (("POST", "/v1/credentials"), ("DELETE", "/v1/credentials/rest"),
                             ("POST", "/v1/credentials/rest/rotate"), ("GET", "/metrics"),
                             ("PUT", "/v1/credentials/limited/policy"),
                             ("POST", "/v1/credentials/admin/sessions"), ("GET", "/v1/replicas")):
            status, answer = rest(method, path, None if method == "GET" else everything, limited)
            self.assertEqual((status, answer["__type"]), (403, "AccessDeniedException"), path)
        status, rotated = rest("POST", "/v1/credentials/rest/rotate", {"keep_old_s": 0})
        self.assertEqual(status, 200)
        self.assertNotEqual(rotated["access_key_id"], made["access_key_id"])
        self.assertEqual(rest("PUT", "/v1/credentials/rest/policy",
                              json.loads(policy()), rotated)[0], 200)
        self.assertEqual(rest("GET", "/v1/credentials", credential=rotated)[0], 403)
        self.assertEqual(rest("DELETE", "/v1/credentials/rest")[0], 200)

    def test_the_local_socket_is_for_root_and_the_nodes_own_user(self):
        node = self.signed_node()
        script = ("import socket,sys\n"
                  "s=socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])\n"
                  "try:\n    s.sendall(b'GET /v1/credentials HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n')\n"
                  "    print(len(s.recv(1000)))\n"
                  "except OSError:\n    print(0)\n")
        name = f"\0penstock-{node.http_port}"

        def ask(user, where):
            where = "'\\0" + where[1:] + "'" if where[0] == "\0" else f"'{where}'"
            return subprocess.run(["/usr/bin/python3", "-c", script.replace("sys.argv[1]", where)],
                                  user=user, group=user, capture_output=True, text=True,
                                  timeout=30, check=False)
        self.assertGreater(int(ask(0, name).stdout), 100)
        self.assertEqual(ask(NOBODY, name).stdout.strip(), "0")
        # With a path, and what a dead node left there.
        path = os.path.join(node.own, "socket")
        node.stop()
        os.chmod(node.own, 0o755)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as left:
            left.bind(path)
        node.start("--local-socket", path)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertIn("admin", penstock("credentials", "list", "--local-socket", path).stdout)
        self.assertIn("Permission", ask(NOBODY, path).stderr)
        self.assertIn("committed", penstock("top", "--once", "--local-socket", path,
                                            "--interval", "0.1").stdout)
        node.stop()
        self.assertFalse(os.path.exists(path))
        # Without one, a credential is the only way in.
        node.start("--local-socket", "none")
        nothing = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        done = node.credentials("list", check=False, env=nothing)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Missing Authentication Token", done.stderr)
        environment = client_environment(node.credential)
        self.assertIn("admin", node.credentials("list", env=environment).stdout)
        done = run(BINARY, "top", "--once", "--interval", "0.1", "--http",
                   f"127.0.0.1:{node.http_port}", env=environment)
        self.assertIn("committed", done.stdout)

    def test_nodes_on_one_port_of_several_hosts_have_a_socket_each(self):
        first = self.signed_node()
        second = self.node(http_port=first.http_port, signed="unused", start=False)
        command, host = second.command, f"127.0.0.2:{first.http_port}"
        second.command = lambda *more: [word.replace("127.0.0.1:", "127.0.0.2:")
                                        for word in command(*more)]
        second.start(ready=False)

        def known(*words):
            return penstock("credentials", "list", *words).stdout
        wait_for(lambda: known("--http", host), "the second node to answer", 20)
        made = penstock("credentials", "make", "seconds", "--policy", "admin", "--http", host)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertIn("seconds", known("--http", host))
        self.assertNotIn("admin", known("--http", host))
        self.assertNotIn("seconds", known("--http", f"127.0.0.1:{first.http_port}"))
        self.assertEqual(second.stop(), 0)

    def test_shell_lines_are_what_clients_need(self):
        node = self.signed_node()
        lines = node.credentials("session", "admin", "--env").stdout
        done = run("sh", "-c", f'{lines}\n/usr/bin/aws kinesis list-streams --endpoint-url {node.url} '
                   '--no-cli-pager --output text; env', env={"PATH": os.environ["PATH"]})
        self.assertIn("AWS_DEFAULT_REGION=us-east-1", done.stdout)


class Policies(AuthTest):
    def test_a_policy_says_who_writes_where(self):
        node = self.signed_node()
        for name in ("logs-a", "logs-b", "secret"):
            node.create_stream(name, 1)
        writer = self.credential(
            node, "writer", ("Allow", ["kinesis:Put*", "kinesis:List*"], STREAM_ARN + "logs-*"),
            ("Deny", "kinesis:*", STREAM_ARN + "*-b"))
        client = node.boto(writer)
        client.put_record(StreamName="logs-a", PartitionKey="k", Data=b"d")
        client.put_records(StreamName="logs-a", Records=[{"PartitionKey": "k", "Data": b"d"}])
        client.list_shards(StreamName="logs-a")
        for stream in ("logs-b", "secret", "none"):
            self.assert_code("AccessDeniedException", client.put_record, StreamName=stream,
                             PartitionKey="k", Data=b"d")
        self.assert_code("AccessDeniedException", client.describe_stream, StreamName="logs-a")
        self.assert_code("AccessDeniedException", client.list_streams)
        self.assert_code("AccessDeniedException", client.delete_stream, StreamName="logs-a")
        self.assert_code("AccessDeniedException", client.create_stream, StreamName="x", ShardCount=1)
        # What is there and what is not, told in the same words.
        said = [self.kinesis(node, "DescribeStream", {"StreamName": name}, writer)
                for name in ("secret", "secres")]
        self.assertEqual(said[0], tuple(
            part.replace("secres", "secret") if isinstance(part, str) else part for part in said[1]))
        self.assertEqual(self.refused(node, "denied"), 9)
        # A new policy holds for the next request.
        path = os.path.join(node.own, "all.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(policy(("Allow", "*", "*")))
        node.credentials("set-policy", "writer", "--policy", path)
        client.describe_stream(StreamName="secret")

    def test_the_words_for_policies_are_enough_for_a_reader_and_a_writer(self):
        node = self.signed_node()
        for name in ("logs", "other"):
            node.create_stream(name, 1)
        writer = node.boto(node.make_credential("writer", "write", "--streams", "logs"))
        reader = node.boto(node.make_credential("reader", "read", "--streams", "logs"))
        watcher = node.make_credential("watcher", "metrics")
        writer.put_record(StreamName="logs", PartitionKey="k", Data=b"d")
        iterator = reader.get_shard_iterator(StreamName="logs", ShardId="shardId-000000000000",
                                             ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        self.assertEqual(len(reader.get_records(ShardIterator=iterator)["Records"]), 1)
        reader.describe_stream(StreamName="logs")
        # An iterator in other hands gives nothing.
        self.assert_code("AccessDeniedException", writer.get_records, ShardIterator=iterator)
        for client in (writer, reader):
            self.assert_code("AccessDeniedException", client.describe_stream_summary, StreamName="other")
        self.assert_code("AccessDeniedException", reader.put_record, StreamName="logs",
                         PartitionKey="k", Data=b"d")
        headers = node.signed_headers("GET", "/metrics", credential=watcher)
        self.assertEqual(self.send(node, "GET", "/metrics", None, headers)[0], 200)
        self.assertEqual(self.kinesis(node, "ListStreams", {}, watcher)[1], "AccessDeniedException")

    def test_a_streams_own_policy_is_kept_and_enforced(self):
        node = self.signed_node()
        node.create_stream("s", 1)
        guest = self.credential(node, "guest", ("Allow", "kinesis:ListStreams", "*"))
        arn = STREAM_ARN + "s"
        text = json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "kinesis:DescribeStreamSummary", "Resource": arn,
             "Principal": {"AWS": "arn:aws:iam::000000000000:user/guest"}}]})
        status, kind, _ = self.kinesis(node, "GetResourcePolicy", {"ResourceARN": arn})
        self.assertEqual((status, kind), (200, None))
        self.assert_code("AccessDeniedException", node.boto(guest).describe_stream_summary,
                         StreamName="s")
        self.assertEqual(self.kinesis(node, "PutResourcePolicy",
                                      {"ResourceARN": arn, "Policy": text})[0], 200)
        node.kill()
        node.start()
        node.boto(guest).describe_stream_summary(StreamName="s")
        self.assertEqual(self.kinesis(node, "DeleteResourcePolicy", {"ResourceARN": arn}, guest)[1],
                         "AccessDeniedException")
        self.assertEqual(self.kinesis(node, "DeleteResourcePolicy", {"ResourceARN": arn})[0], 200)
        self.assert_code("AccessDeniedException", node.boto(guest).describe_stream_summary,
                         StreamName="s")


class Binding(AuthTest):
    def test_signed_requests_may_come_from_anywhere_unsigned_ones_may_not(self):
        node = self.signed_node("--http", "0.0.0.0:0", start=False)
        line = node.command()
        # The last --http counts nowhere: one is all there may be.
        self.assertEqual(line.count("--http"), 2)
        del line[2:4]
        line[line.index("0.0.0.0:0")] = f"0.0.0.0:{node.http_port}"
        with mock.patch.object(node, "command", lambda *more: line + list(more)):
            node.start()
        self.assertEqual(node.boto().list_streams()["StreamNames"], [])
        # By a name that is not this machine's, and from a web page: the signature decides.
        body = "{}"
        headers = node.signed_headers("POST", "/", body, {
            "Content-Type": "application/x-amz-json-1.1", "Host": "kinesis.example",
            "X-Amz-Target": "Kinesis_20131202.ListStreams"})
        self.assertEqual(self.send(node, "POST", "/", body, headers)[0], 200)
        done = penstock("serve", "--data", node.data[0], "--unsigned", "--http", "0.0.0.0:0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("loopback", done.stderr)

    def test_an_unsigned_node_keeps_its_credentials_for_later(self):
        node = self.signed_node()
        node.stop()
        credential, key_file = node.credential, node.key_file
        node.credential, node.key_file, node.credential_name = None, None, None
        node.start()
        self.assertEqual(node.boto().list_streams()["StreamNames"], [])
        self.assertIn("without a key file", node.credentials("make", "x", "--policy", "admin",
                                                              check=False).stderr)
        node.stop()
        node.credential, node.key_file = credential, key_file
        node.start()
        self.assertEqual(node.boto().list_streams()["StreamNames"], [])


class Regions(NodeTest):
    @staticmethod
    def data(client):
        return [record["Data"] for shard in read_stream(client, "s").values() for record in shard]

    def test_streams_of_two_regions_are_kept_apart(self):
        node = self.node(signed="admin", start=False)
        node.start("--region", "us-east-1,eu-west-1")
        clients = {region: node.boto(region=region) for region in ("us-east-1", "eu-west-1")}
        for region, client in clients.items():
            node.create_stream("s", 1, client)
            self.assertEqual(client.list_streams()["StreamNames"], ["s"])
            client.put_record(StreamName="s", PartitionKey="k", Data=region.encode())
        for region, client in clients.items():
            self.assertEqual(self.data(client), [region.encode()])
            summary = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]
            self.assertEqual(summary["StreamARN"],
                             f"arn:aws:kinesis:{region}:000000000000:stream/s")
        with self.assertRaises(ClientError) as refused:
            node.boto(region="eu-central-1").list_streams()
        self.assertEqual(refused.exception.response["Error"]["Code"], "InvalidSignatureException")
        clients["us-east-1"].delete_stream(StreamName="s")
        self.assertEqual(self.data(clients["eu-west-1"]), [b"eu-west-1"])
        self.assertEqual(node.stop(), 0)

        # The order of regions says whose streams the unnamed ones are.
        node.start("--region", "eu-west-1,us-east-1", ready=False)
        self.assertNotEqual(node.process.wait(15), 0)
        self.assertIn("streams of eu-west-1 are kept as those of a further region", node.log())
        node.start()
        self.assertIn("region eu-west-1: 1 stream is kept and not served", node.log())
        self.assertEqual(node.stop(), 0)
        node.start("--region", "us-east-1,eu-west-1")
        self.assertEqual(self.data(node.boto(region="eu-west-1")), [b"eu-west-1"])


if __name__ == "__main__":
    main()
