"""What an image compiles is what a pod runs: a start compiles nothing, and doesn't even look at the source's time."""

import os
import subprocess
import sys
from pathlib import Path

IMAGES = Path(__file__).parents[2] / "images"


def test_each_layer_is_compiled_and_the_byte_code_is_used_whatever_the_time_of_the_source(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    paths = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    said = subprocess.run([python, "-c", paths], capture_output=True, text=True, check=True)
    module = Path(said.stdout.strip()) / "brought.py"
    module.write_text("WORD = 'compiled'\n")
    (module.parent / "no_python.py").write_text("{{ template }} of code\n")
    subprocess.run([python, str(IMAGES / "compile.py")], check=True)
    module.write_text("WORD = 'compiled anew'\n")
    os.utime(module, (0, 0))
    asked = [python, "-B", "-c", "import brought; print(brought.WORD)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "compiled"


def test_every_layer_of_packages_ends_with_the_compilation() -> None:
    assert (IMAGES / "install.sh").read_text().rstrip().endswith("python3 /tools/compile.py")
    steps = (IMAGES / "Containerfile").read_text()
    assert "PYTHONDONTWRITEBYTECODE=1" in steps
    assert " pip install " not in steps.replace("/tools/bin/python -m pip install", "")
