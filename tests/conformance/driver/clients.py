"""Installs and builds the five official clients' programs outside the source tree.

Lock files and sources are hashed: what is already built for the same input is used again.
The cache is welcome, never required.
"""

import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

SOURCES = pathlib.Path(__file__).resolve().parent.parent
CACHE_VARIABLE = "PINNACE_CONFORMANCE_CACHE"


class BuildFailed(Exception):
    """A client could not be installed; the text says what to do."""


@dataclasses.dataclass(frozen=True)
class Client:
    """One column of the table."""

    name: str
    title: str
    package: str
    tools: tuple[str, ...]


CLIENTS = [
    Client("java", "Java", "org.apache.rocketmq:rocketmq-client-java 5.2.0 (Maven Central)",
           ("java", "mvn")),
    Client("go", "Go", "github.com/apache/rocketmq-clients/golang/v5 v5.1.4", ("go",)),
    Client("python", "Python", "rocketmq-python-client 5.1.2 (PyPI)", ()),
    Client("node", "Node.js", "rocketmq-client-nodejs 1.0.8 (npm)", ("node", "npm")),
    Client("rust", "Rust", "rocketmq 5.0.0 (crates.io)", ("cargo",)),
]


def cache():
    named = os.environ.get(CACHE_VARIABLE)
    return pathlib.Path(named) if named else pathlib.Path.home() / ".cache/pinnace/conformance"


def digest(paths, salt=""):
    """Changes when one of the files does."""
    total = hashlib.sha256(salt.encode())
    for path in sorted(paths):
        total.update(str(path.relative_to(SOURCES)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]


def execute(command, folder, more_environment=None):
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(more_environment or {})},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise BuildFailed(f"{' '.join(map(str, command))} failed in {folder}:\n{tail}")


def once(folder, make):
    """Fills the folder by make(folder) unless a finished one is there; drops older ones."""
    if not (folder / "complete").exists():
        for old in folder.parent.glob(folder.name.split("-")[0] + "-*"):
            shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        (folder / "complete").touch()
    return folder


def build_java(home):
    source = SOURCES / "java"
    files = [source / "pom.xml", *(source / "src").rglob("*.java")]

    def make(folder):
        command = ["mvn", "-q", "-B", f"-Dconformance.target={folder}", "compile"]
        try:
            execute([*command[:1], "-o", *command[1:]], source)
        except BuildFailed:
            execute(command, source)

    folder = once(cache() / f"java-{digest(files)}", make)
    return [
        "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m",
        f"-Duser.home={home}", f"-Drocketmq.log.root={home}/logs/java",
        "-cp", f"{folder}/classes:{folder}/dependency/*", "dev.pinnace.conformance.Main",
    ], {}


def build_go(home):
    target = cache() / "go" / "conformance"
    execute(["go", "build", "-o", str(target), "."], SOURCES / "go")
    return [str(target)], {}


def build_python(home):
    source = SOURCES / "python"

    def make(folder):
        execute([sys.executable, "-m", "venv", str(folder / "venv")], source)
        execute([str(folder / "venv/bin/pip"), "install", "-q", "--disable-pip-version-check",
                 "--require-hashes", "-r", "requirements.txt"], source)

    key = digest([source / "requirements.txt"], sys.version)
    folder = once(cache() / f"python-{key}", make)
    return [str(folder / "venv/bin/python"), "-B", str(source / "main.py")], {}


def build_node(home):
    source = SOURCES / "node"
    locks = [source / "package.json", source / "package-lock.json"]

    def make(folder):
        for lock in locks:
            shutil.copy(lock, folder)
        execute(["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund",
                 "--prefer-offline"], folder)

    folder = once(cache() / f"node-{digest(locks)}", make)
    return ["node", str(source / "main.js")], {"NODE_PATH": str(folder / "node_modules")}


def build_rust(home):
    target = cache() / "rust"
    execute(["cargo", "build", "--locked", "--quiet"], SOURCES / "rust",
            {"CARGO_TARGET_DIR": str(target)})
    return [str(target / "debug/pinnace-conformance-rust")], {"RUST_LIB_BACKTRACE": "0"}


BUILDERS = {
    "java": build_java, "go": build_go, "python": build_python,
    "node": build_node, "rust": build_rust,
}


def build(client, home):
    """The client's program: its command line and what its environment needs besides."""
    missing = [tool for tool in client.tools if not shutil.which(tool)]
    if missing:
        raise BuildFailed(f"{client.title}: {', '.join(missing)} not found; install it, or "
                          f"choose the other clients with --client")
    return BUILDERS[client.name](home)
