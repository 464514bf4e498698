"""Recovered merge recipes, given to the real mergekit, rebuild the merged models."""

from __future__ import annotations

import pytest

from crawler.hub_server import running_hub
from lineage.model import Grade
from lineage.pipeline.recipe import recipe_of
from lineage.pipeline.run import run
from lineage.pipeline.verify import verify
from lineage.pipeline.verify_plan import VerifyOptions
from lineage.store.findings import current_findings
from lineage.store.home import Home

pytestmark = pytest.mark.slow


def test_recovered_recipes_rebuild_their_models_with_mergekit(pocket, tmp_path):
    pytest.importorskip("mergekit", reason="needs the extra 'merge'")
    home = Home(tmp_path / "home")
    with running_hub(pocket) as endpoint:
        run(home, endpoint)
    connection = home.open_working()
    findings = [f for f in current_findings(connection) if f.grade is Grade.PROVED]
    connection.close()
    merged = [f.child for f in findings if f.recipe_yaml]
    stacked = [f.child for f in findings if f.layer_map]
    assert len(merged) >= 8
    assert len(stacked) >= 3
    options = VerifyOptions(models=pocket, scratch=tmp_path)
    matches = {
        child: verify(recipe_of(home, child).yaml, child, options).match
        for child in (*merged, *stacked)
    }
    assert {child: match.share for child, match in matches.items() if match.share <= 0.995} == {}
    assert sum(matches[child].is_exact for child in merged) >= 5
    assert all(matches[child].is_exact for child in stacked)
