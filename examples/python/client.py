"""Runs one job on Longshore over gRPC: submit, follow the log, wait, download and verify what it left in /out.

    LONGSHORE_TOKEN=lst_… python3 client.py --address 127.0.0.1:7420 --out ./result IMAGE [COMMAND...]

With --ca-file the controller is reached under TLS, trusted by what `longshore ca` prints.

Exits with the job's own exit code. Only grpcio and the standard library; README.md says how the stubs are made.
"""

import argparse
import hashlib
import os
import pathlib
import ssl
import sys
import time
import urllib.request
import uuid

import grpc
from google.protobuf import duration_pb2
from longshore.v1 import job_pb2, jobs_pb2, jobs_pb2_grpc

# Refusals that another try may mend; every call below may be repeated safely.
TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)


def persist(call, attempts=6):
    """Makes a call again, later and later, while its refusal is transient."""
    for attempt in range(attempts):
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in TRANSIENT or attempt == attempts - 1:
                raise
            time.sleep(0.1 * 2**attempt)


def submit(jobs, image, command, memory_bytes):
    """Submits once, however often it is sent: the request id makes repeats harmless."""
    spec = job_pb2.JobSpec(image=image)
    if command:
        spec.command.values.extend(command)
    if memory_bytes:
        spec.resources.memory_bytes = memory_bytes
    request = jobs_pb2.SubmitRequest(request_id=str(uuid.uuid4()), spec=spec)
    return persist(lambda: jobs.Submit(request, timeout=30)).job


def follow(jobs, job_id):
    """Writes the log as it grows: stdout to stdout, all else to stderr. Resumes where a broken stream ended."""
    offset, attempt = 0, 0
    while True:
        request = jobs_pb2.StreamLogsRequest(job=job_id, attempt=attempt, offset=offset, follow=True)
        try:
            for page in jobs.StreamLogs(request):
                if page.attempt != attempt:
                    attempt = page.attempt
                for record in page.records:
                    own = record.stream == job_pb2.STREAM_STDOUT
                    target = sys.stdout.buffer if own else sys.stderr.buffer
                    target.write(record.data)
                    target.flush()
                offset = page.next_offset
            return
        except grpc.RpcError as error:
            if error.code() not in TRANSIENT:
                raise
            time.sleep(0.5)


def wait(jobs, job_id):
    """The ended job. One call waits a minute at most, so it is asked again."""
    request = jobs_pb2.WaitJobRequest(job=job_id, timeout=duration_pb2.Duration(seconds=60))
    while True:
        answer = persist(lambda: jobs.Wait(request, timeout=90))
        if answer.finished:
            return answer.job


def artifacts(jobs, job_id):
    """Every file of /out, page by page."""
    token = ""
    while True:
        request = jobs_pb2.ListArtifactsRequest(job=job_id, page_token=token)
        page = persist(lambda: jobs.ListArtifacts(request, timeout=30))
        yield from page.artifacts
        token = page.next_page_token
        if not token:
            return


def download(jobs, job_id, artifact, folder, trust):
    """Fetches one file through its signed address, and keeps it only if size and SHA-256 are right."""
    request = jobs_pb2.GetArtifactUrlsRequest(job=job_id, paths=[artifact.path])
    url = persist(lambda: jobs.GetArtifactUrls(request, timeout=30)).urls[0]
    target = folder / os.fsdecode(artifact.path)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{artifact.path!r} would be outside of {folder}")
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    part = target.with_name(target.name + ".part")
    with urllib.request.urlopen(url, timeout=60, context=trust) as source, open(part, "wb") as sink:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
            sink.write(chunk)
    if (size, digest.digest()) != (artifact.size, artifact.sha256):
        part.unlink()
        raise ValueError(f"{target}: size or SHA-256 differ from what was stored")
    part.replace(target)
    return target


class Authorized(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor
):
    """Shows the token with every call."""

    def __init__(self, token):
        self.metadata = ("authorization", f"Bearer {token}")

    def _with_token(self, continuation, details, request):
        metadata = [*(details.metadata or []), self.metadata]
        return continuation(details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = _with_token


def connect(address, ca_file):
    """Under TLS where a CA is given, else in plain text: for a controller on this machine."""
    if ca_file is None:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca_file.read_bytes()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1:7420", help="the controller (default: %(default)s)")
    parser.add_argument("--ca-file", type=pathlib.Path, help="PEM, as `longshore ca` prints it")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("result"))
    parser.add_argument("--memory-mib", type=int, default=0)
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    # Addresses of files are on the controller too, unless it keeps them in an object store.
    trust = ssl.create_default_context(cafile=options.ca_file)
    if options.ca_file:
        trust.load_default_certs()
    with connect(options.address, options.ca_file) as bare:
        channel = grpc.intercept_channel(bare, Authorized(os.environ.get("LONGSHORE_TOKEN", "")))
        jobs = jobs_pb2_grpc.JobsStub(channel)
        job = submit(jobs, options.image, options.command, options.memory_mib << 20)
        print(f"job {job.id}", file=sys.stderr)
        follow(jobs, job.id)
        job = wait(jobs, job.id)
        options.out.mkdir(parents=True, exist_ok=True)
        for artifact in artifacts(jobs, job.id):
            target = download(jobs, job.id, artifact, options.out, trust)
            print(f"{artifact.sha256.hex()}  {target}", file=sys.stderr)
        print(f"{job.outcome.name} {job.outcome.detail}".rstrip(), file=sys.stderr)
        return job.outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
