"""A fake ssh, started as ``ssh [OPTION]... -- HOST COMMAND``.

Each host is a folder, its home, which holds its temporary files. Like sshd it has a shell run the
command in a session of its own, whose stdin it closes when the connection ends. Names of hosts say
what is wrong with them.
"""

import os
import subprocess
import sys
from threading import Thread

HOST, COMMAND = sys.argv[sys.argv.index("--") + 1 :]
FOLDER = os.path.join(os.environ["FAKE_HOSTS"], HOST)
COPIED_BYTES = 50_000
"""After so many the connection to `cut-early` ends."""


def hang_up() -> None:
    os.write(2, b"client_loop: send disconnect: Broken pipe\r\n")
    os._exit(255)


def forward(process: "subprocess.Popen[bytes]") -> None:
    sent = 0
    while piece := os.read(0, 1 << 16):
        sent += process.stdin.write(piece)
        process.stdin.flush()
        if HOST == "cut-early" and sent > COPIED_BYTES:
            hang_up()
    process.stdin.close()


if HOST == "off":
    os.write(2, b"ssh: connect to host off port 22: Connection refused\r\n")
    sys.exit(255)
os.makedirs(FOLDER, exist_ok=True)
environment = {**os.environ, "HOME": FOLDER, "TMPDIR": FOLDER}
limit = "ulimit -f 16; " if HOST == "full" else ""
connection = subprocess.Popen(
    ["sh", "-c", f"echo Welcome to {HOST}; {limit}{COMMAND}"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env=environment,
    start_new_session=True,
)
Thread(target=forward, args=(connection,), daemon=True).start()
for line in connection.stdout:
    sys.stdout.buffer.write(line)
    sys.stdout.flush()
    if HOST == "cut-late" and b"measuring" in line:
        hang_up()
sys.exit(connection.wait())
