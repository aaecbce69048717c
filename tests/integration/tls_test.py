"""TLS: certificates made by the program, both protocols, resumption, reload, and the SDKs' trust."""

import os
import signal
import socket
import ssl
import stat
import struct
import tempfile
import shutil

import boto3
from botocore.config import Config
from botocore.exceptions import SSLError

from node import (AWS, LabError, NodeTest, client_environment, free_port, javascript, main,
                  penstock, run, wait_for)


class Tls(NodeTest):
    def setUp(self):
        super().setUp()
        self.dir = tempfile.mkdtemp(prefix="penstock-tls-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.ca = os.path.join(self.dir, "ca.pem")
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"

    def make(self, *more):
        done = penstock("certificate", "make", "--dir", self.dir, "--name", "localhost",
                        "--name", "127.0.0.1", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def path(self, name):
        return os.path.join(self.dir, name)

    def tls_node(self, *more, **kwargs):
        self.make()
        return self.node("--https", f"127.0.0.1:{self.port}", "--tls-cert", self.path("server.pem"),
                         "--tls-key", self.path("server-key.pem"), *more, **kwargs)

    def curl(self, *words, check=True):
        return run("curl", "-sS", "--noproxy", "*", "--max-time", "30", "--cacert", self.ca, *words,
                   check=check)

    def context(self, version=None):
        context = ssl.create_default_context(cafile=self.ca)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def connect(self, context, session=None):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        secure = context.wrap_socket(raw, server_hostname="localhost", session=session)
        self.addCleanup(secure.close)
        return secure

    def ask(self, secure):
        """One request on a connection that stays open."""
        secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nok\n"):
            more = secure.recv(4096)
            self.assertTrue(more, answer)
            answer += more
        return answer

    def test_signed_requests_are_taken_over_tls_too(self):
        node = self.tls_node(signed="admin")
        credential = node.credential
        done = run(AWS, "kinesis", "list-streams", "--endpoint-url", self.url, "--ca-bundle", self.ca,
                   "--output", "json", env=client_environment(credential), timeout=60)
        self.assertIn("StreamNames", done.stdout)
        key = f"{credential['access_key_id']}:{credential['secret_access_key']}"
        words = ["--aws-sigv4", "aws:amz:us-east-1:kinesis", "-u", key, self.url + "/metrics"]
        for version in ("--http1.1", "--http2"):
            self.assertIn("penstock_tls_handshakes_total", self.curl(version, *words).stdout)
        self.assertIn("MissingAuthenticationToken", self.curl(self.url + "/metrics").stdout)

    def test_an_authority_is_made_once_and_keys_are_their_owners(self):
        first = self.make()
        with open(self.ca, "rb") as file:
            authority = file.read()
        second = self.make("--name", "kinesis.example.net", "--days", "30")
        self.assertIn("made an authority", first)
        self.assertIn("was there", second)
        with open(self.ca, "rb") as file:
            self.assertEqual(file.read(), authority)
        self.assertEqual(set(os.listdir(self.dir)),
                         {"ca.pem", "ca-key.pem", "server.pem", "server-key.pem"})
        for name, mode in (("ca-key.pem", 0o600), ("server-key.pem", 0o600), ("server.pem", 0o644)):
            self.assertEqual(stat.S_IMODE(os.stat(self.path(name)).st_mode), mode, name)
        for name in ("localhost", "kinesis.example.net"):
            run("openssl", "verify", "-x509_strict", "-CAfile", self.ca, "-verify_hostname", name,
                self.path("server.pem"))
        run("openssl", "verify", "-CAfile", self.ca, "-verify_ip", "127.0.0.1",
            self.path("server.pem"))
        os.remove(self.path("ca-key.pem"))
        done = penstock("certificate", "make", "--dir", self.dir, "--name", "localhost")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("ca-key.pem", done.stderr)

    def test_a_certificate_that_cannot_be_used_ends_the_start_with_one_line(self):
        node = self.tls_node(start=False)
        os.replace(self.path("ca-key.pem"), self.path("server-key.pem"))
        with self.assertRaisesRegex(LabError, "ended with 1"):
            node.start()
        self.assertIn("server-key.pem cannot be used: key values mismatch", node.log())

    def test_curl_speaks_both_protocols_and_clear_text_is_told_its_mistake(self):
        node = self.tls_node()
        for more, version in ((["--http2"], "2"), (["--http1.1"], "1.1"), (["--no-alpn"], "1.1")):
            done = self.curl(*more, "-w", "%{http_version}", self.url + "/healthz")
            self.assertEqual(done.stdout, "ok\n" + version)
        self.assertIn("https://", self.curl(f"http://127.0.0.1:{self.port}/").stdout)
        self.assertNotEqual(run("curl", "-sS", self.url, check=False).returncode, 0)
        self.assertIn(f"and https://127.0.0.1:{self.port}", node.log())
        done = run("h2load", "-n", "5000", "-c", "10", "-m", "20", "-T", "60",
                   self.url + "/healthz", timeout=120)
        self.assertIn("5000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout)
        metrics = node.metrics()
        self.assertGreaterEqual(metrics.get("penstock_tls_handshakes_total", outcome="failed"), 2)
        self.assertGreater(metrics.get("penstock_tls_certificate_expires_timestamp_seconds"), 1e9)

    def test_a_handshake_that_a_reset_cuts_off_has_failed(self):
        node = self.tls_node()
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.sendall(b"\x16\x03\x01\x02\x00\x01")  # a ClientHello begins
        for _ in range(3):
            node.metrics()   # the same thread answers: it has read what came before
        raw.close()
        wait_for(lambda: node.metrics().get("penstock_tls_handshakes_total", outcome="failed") == 1,
                 "the failed handshake")

    def test_sessions_are_resumed_on_every_control_thread(self):
        node = self.tls_node("--http-threads", "2")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context(version)
            first = self.connect(context)
            self.ask(first)   # tickets of TLS 1.3 come with the first answer
            self.assertFalse(first.session_reused)
            # Connections that stay open are given to the threads in turn.
            for _ in range(4):
                again = self.connect(context, session=first.session)
                self.ask(again)
                self.assertTrue(again.session_reused)
        done = run("openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", "-CAfile", self.ca,
                   "-tls1_2", "-reconnect")
        self.assertEqual(done.stdout.count("Reused, TLSv1.2"), 5)
        self.assertEqual(node.metrics().get("penstock_tls_handshakes_total", outcome="resumed"), 13)

    def test_a_certificate_is_reloaded_and_a_bad_one_is_not(self):
        node = self.tls_node()
        def served():
            """The serial number new connections see."""
            secure = self.connect(self.context())
            self.ask(secure)
            return secure.getpeercert()["serialNumber"]

        def hang_up(line):
            before = node.log().count(line)
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: node.log().count(line) > before, f"the log to say '{line}'")

        living = self.connect(self.context())
        self.ask(living)
        old = living.getpeercert()["serialNumber"]
        self.make()
        self.assertEqual(served(), old)
        hang_up("is in use")
        new = served()
        self.assertNotEqual(new, old)
        with open(self.path("server.pem"), "w", encoding="utf-8") as file:
            file.write("nonsense\n")
        hang_up("the one loaded before stays in use")
        self.assertEqual(served(), new)
        os.remove(self.path("server.pem"))
        hang_up("No such file or directory")
        self.assertEqual(served(), new)
        self.ask(living)
        self.assertEqual(node.stop(), 0)

    def test_without_tls_a_hang_up_changes_nothing(self):
        node = self.node()
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "no TLS certificate to reload" in node.log(), "the log to say so")
        self.assertEqual(node.http("/readyz")[0], 200)

    def test_boto3_and_the_aws_cli_trust_the_authority(self):
        node = self.tls_node()
        node.create_stream("s", 1)
        os.environ.update(client_environment())

        def client(**more):
            return boto3.client("kinesis", endpoint_url=self.url, region_name="us-east-1",
                                aws_access_key_id="local", aws_secret_access_key="local",
                                config=Config(retries={"max_attempts": 0}), **more)
        trusting = client(verify=self.ca)
        put = trusting.put_record(StreamName="s", PartitionKey="k", Data=b"sealed")
        iterator = trusting.get_shard_iterator(StreamName="s", ShardId=put["ShardId"],
                                               ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        records = trusting.get_records(ShardIterator=iterator)["Records"]
        self.assertEqual([record["Data"] for record in records], [b"sealed"])
        with self.assertRaises(SSLError):
            client().list_streams()
        words = [AWS, "kinesis", "list-streams", "--endpoint-url", self.url, "--no-cli-pager",
                 "--output", "text"]
        environment = client_environment()
        for more, variables in ((["--ca-bundle", self.ca], {}), ([], {"AWS_CA_BUNDLE": self.ca})):
            done = run(*words, *more, env={**environment, **variables}, timeout=60)
            self.assertIn("s", done.stdout.split())
        self.assertNotEqual(run(*words, env=environment, check=False, timeout=60).returncode, 0)

    def test_the_javascript_sdk_trusts_the_authority(self):
        node = self.tls_node()
        found = javascript("kinesis.js", self.url, "words", NODE_EXTRA_CA_CERTS=self.ca)
        self.assertEqual(found["sizes"], [5] + [700000] * 4)
        self.assertEqual(found["listed"], 20)
        self.assertGreater(node.metrics().get("penstock_http_requests_received_total",
                                              protocol="h2"), 25)
        with self.assertRaisesRegex(LabError, "certificate"):
            javascript("kinesis.js", self.url, "none")


if __name__ == "__main__":
    main()
