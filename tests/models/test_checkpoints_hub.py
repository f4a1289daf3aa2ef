"""Models of the Hugging Face hub, read from its local cache: what a download leaves there, and no network."""

import os
import subprocess
import sys
from pathlib import Path

from tests.models.test_hugging_face import word_tokenizer

import headscan as hs
from architectures import transformers_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import sys, headscan as hs
for name in sys.argv[1:]:
    model = hs.load_model(name)
    print(model.name, model.weights_hash, model.encode_text(["cat"]).shape[1])
"""


def as_downloaded(folder: Path, cache: Path, repository: str) -> None:
    """Lay a folder into a cache as the hub's client does: a branch that names a commit, and the commit's files."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    (place / "snapshots").mkdir()
    (place / "snapshots" / COMMIT).symlink_to(folder, target_is_directory=True)


def test_repositories_of_both_libraries_load_offline_from_the_cache(bundle, tmp_path):
    (tmp_path / "tuned").mkdir()
    transformers_model("CLIPModel").save_pretrained(tmp_path / "tuned")
    word_tokenizer(tmp_path / "tuned")
    folders = {"someone/tiny": bundle, "someone/tuned": tmp_path / "tuned"}
    for repository, folder in folders.items():
        as_downloaded(folder, tmp_path / "cache", repository)
    (tmp_path / "load.py").write_text(LOAD)
    names = [f"hf-hub:{repository}" for repository in folders]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(tmp_path / "load.py"), *names]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    for line, name, folder in zip(run.stdout.splitlines(), names, folders.values(), strict=True):
        same = hs.load_model(f"local-dir:{folder}")
        assert line.split() == [f"{name}@{COMMIT}", same.weights_hash, str(same.joint_dim)]
