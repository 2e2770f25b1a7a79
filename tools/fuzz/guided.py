"""Coverage-guided inputs: atheris (libFuzzer) writes one file of a reader, the rest is healthy.

python -m tools.fuzz.guided READER INPUTS SANDBOX KEPT
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["brainage", "nibabel", "pydicom", "yaml", "safetensors"]):
    from tools.fuzz.promise import Tally, Trial
    from tools.fuzz.targets import TARGETS

MAX_BYTES = 8192


def main() -> None:
    """Run atheris; it ends the process."""
    name, inputs, sandbox, kept = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    target, tally = TARGETS[name], Tally()
    seeds = target.seeds()
    healthy = next((seed for seed in seeds if target.guided in seed), {})
    corpus = sandbox / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        content = seed.get(target.guided)
        if content is not None:
            (corpus / str(number)).write_bytes(content[:MAX_BYTES])
    trial = Trial(target, sandbox, Path(kept), tally.count)

    def one(content: bytes) -> None:
        trial(tally.inputs, target.mend({**healthy, target.guided: content}))
        if tally.inputs % 100 == 0 or tally.inputs >= inputs:
            (sandbox / "tally.json").write_text(json.dumps(asdict(tally)), encoding="utf-8")

    bounds = [f"-max_len={MAX_BYTES}", "-timeout=120", "-rss_limit_mb=4096", "-seed=1"]
    arguments = [
        sys.argv[0],
        f"-runs={inputs}",
        *bounds,
        f"-artifact_prefix={sandbox}/",
        str(corpus),
    ]
    atheris.Setup(arguments, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
