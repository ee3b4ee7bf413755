"""Owns the one thing that pyproject.toml cannot say: components/, pipelines/ and profiles/ are in carryover_kfp."""

from setuptools import find_packages, setup

# The two folders lie at the top, as in kubeflow/pipelines-components, so that one can move there unchanged.
AUTHORING = ("components", "pipelines")

setup(
    packages=[
        *find_packages(include=["carryover", "carryover.*", "carryover_kfp", "carryover_kfp.*"]),
        *(f"carryover_kfp.{name}" for name in find_packages(include=[f"{folder}*" for folder in AUTHORING])),
        # YAML only.
        "carryover_kfp.profiles",
    ],
    package_dir={f"carryover_kfp.{folder}": folder for folder in (*AUTHORING, "profiles")},
    # What stands beside the code in each folder travels with it.
    package_data={"": ["*.yaml", "README.md", "OWNERS", "troubles.md", "py.typed"]},
)
