import shutil
import signal
import subprocess
import sys
import time

import pytest

from diffusion_text.cache import cached_directory, content_digest
from diffusion_text.errors import UserError
from diffusion_text.storage import MANIFEST

BUILDER = """
import sys, time
from pathlib import Path
from diffusion_text.cache import cached_directory

def build(directory):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    (directory / "half").touch()
    time.sleep(float(sys.argv[3]))
    (directory / "whole").touch()

print(cached_directory(sys.argv[1], "thing", {"a": 1}, [], build))
"""


def builder(cache, log, seconds):
    """A process that builds `thing` in so many seconds."""
    command = [sys.executable, "-c", BUILDER, str(cache), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def write(directory):
    (directory / "content").write_text("built")


def unexpected(directory):
    pytest.fail("it was built again")


def test_built_once(tmp_path):
    first = cached_directory(tmp_path, "thing", {"a": 1}, [], write)
    assert (first / "content").read_text() == "built"
    assert cached_directory(tmp_path, "thing", {"a": 1}, [], unexpected) == first


def test_the_order_of_a_key_does_not_matter(tmp_path):
    first = cached_directory(tmp_path, "thing", {"a": 1, "b": 2}, [], write)
    assert cached_directory(tmp_path, "thing", {"b": 2, "a": 1}, [], unexpected) == first


def test_kind_key_and_code_each_make_another_directory(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("x = 1")
    found = [cached_directory(tmp_path, *what, [str(code)], write) for what in (("a", {}), ("b", {}), ("a", {"k": 1}))]
    code.write_text("x = 2")
    found.append(cached_directory(tmp_path, "a", {}, [str(code)], write))
    assert len(set(found)) == 4
    code.write_text("x = 1")
    assert cached_directory(tmp_path, "a", {}, [str(code)], unexpected) == found[0]


def test_a_failing_build_leaves_nothing_behind(tmp_path):
    def fail(directory):
        write(directory)
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        cached_directory(tmp_path, "thing", {}, [], fail)
    assert [path.suffix for path in (tmp_path / "thing").iterdir()] in ([], [".lock"])
    assert (cached_directory(tmp_path, "thing", {}, [], write) / "content").exists()


def test_a_killed_build_is_not_taken_for_a_result(tmp_path):
    log = tmp_path / "log"
    killed = builder(tmp_path, log, 60)
    while not list(tmp_path.glob("thing/*/half")):
        time.sleep(0.02)
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = cached_directory(tmp_path, "thing", {"a": 1}, [], write)
    assert {path.name for path in done.iterdir()} == {"content", MANIFEST}
    assert {path.suffix for path in done.parent.iterdir()} <= {"", ".lock"}, "what was left half-built is gone"


def test_two_processes_at_once_build_once(tmp_path):
    log = tmp_path / "log"
    processes = [builder(tmp_path, log, 0.5) for _ in range(2)]
    said = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert log.read_text() == "built\n"
    [directory] = said
    assert (tmp_path / "thing" / directory.rsplit("/", 1)[-1] / "whole").exists()


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cannot write the cache in \S+: [^\n]*cache_dir=DIR$"):
        cached_directory(tmp_path / "file", "thing", {}, [], write)


def test_a_digest_tells_where_its_parts_end():
    assert content_digest("ab", "c") != content_digest("a", "bc")
    assert content_digest("ab", "c") == content_digest("ab", "c")


def test_a_directory_that_was_changed_is_built_again_which_is_said(tmp_path, caplog):
    directory = cached_directory(tmp_path, "thing", {}, [], write)
    for damage in (lambda file: file.write_text("poison"), lambda file: file.unlink()):
        damage(directory / "content")
        assert cached_directory(tmp_path, "thing", {}, [], write) == directory
        assert (directory / "content").read_text() == "built"
        assert f"{directory / 'content'} is damaged" in caplog.text
        assert "building it again" in caplog.text
        caplog.clear()


def test_a_copy_is_as_good(tmp_path):
    cached_directory(tmp_path / "one", "thing", {}, [], write)
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    cached_directory(tmp_path / "two", "thing", {}, [], unexpected)


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{", '{"content": []}', '{"content": [1, 2, "3"]}', '{"../x": [1, 2, ""]}']
)
def test_a_manifest_that_is_none_is_no_traceback(tmp_path, manifest):
    directory = cached_directory(tmp_path, "thing", {}, [], write)
    (directory / MANIFEST).write_text(manifest)
    assert cached_directory(tmp_path, "thing", {}, [], write) == directory
    assert (directory / "content").read_text() == "built"
