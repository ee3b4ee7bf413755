"""Owns the component `promote`: a Model becomes the champion of a name, or is remembered as not good enough."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def promote(
    name: str,
    store: str,
    model: dsl.Input[dsl.Model] = None,
    model_uri: str = "",
    accepted: bool = True,
    reason: str = "",
    against: str = "",
    force: bool = False,
    owner: str = "",
) -> NamedTuple("Outputs", [("promoted", bool), ("champion_uri", str), ("reason", str)]):
    """Make a Model the champion, if it was accepted and the champion is still the one that it was measured against.

    To keep the champion is an outcome, not a failure. A retry of the same run gives the same answer.

    Args:
        name: Whose champion: a-z, 0-9 and '-'.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover.
        model: The Model; or model_uri.
        model_uri: Its canonical URI instead of the artifact.
        accepted: The verdict on it. A Model that is not accepted is remembered, and not promoted later.
        reason: Words for the record.
        against: Digest of the champion that it was measured against. Empty: there was none.
        force: Promote it although it was rejected or rolled back from before.
        owner: Who decides: pass dsl.PIPELINE_JOB_ID_PLACEHOLDER alone.

    Returns:
        promoted: Whether this run made it the champion.
        champion_uri: Where the champion of now lies in the store; empty where there is none.
        reason: Why, or why not.
    """
    from carryover.steps.component import exit_codes, one_of
    from carryover.steps.promote import promote as step

    with exit_codes():
        result = step(
            name=name,
            model=one_of("model", model.path if model else "", model_uri),
            store=store,
            accepted=accepted,
            reason=reason,
            against=against,
            force=force,
            owner=owner,
        )
        return result["promoted"], result["champion_uri"], result["reason"]


if __name__ == "__main__":
    compiler.Compiler().compile(promote, package_path=__file__.replace(".py", ".yaml"))
