"""Compiles the protocol files of the gRPC endpoint: `python -m tools.protocols`. A test compares the result with the files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from grpc_tools import protoc

FOLDER = Path(__file__).resolve().parents[1] / "src" / "falaj" / "inference" / "grpc"


def compiled(source: Path) -> bytes:
    """The FileDescriptorSet of one `.proto` file. Raises ValueError where it does not compile."""
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "set"
        if protoc.main(["protoc", f"--proto_path={source.parent}", f"--descriptor_set_out={made}", str(source)]):
            raise ValueError(f"{source} does not compile")
        return made.read_bytes()


def main() -> None:
    for source in sorted(FOLDER.glob("*.proto")):
        source.with_suffix(".binpb").write_bytes(compiled(source))


if __name__ == "__main__":
    main()
