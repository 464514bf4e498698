"""Recovered merge recipes, given to the real mergekit, rebuild the merged models."""

from __future__ import annotations

import pytest
import yaml

from crawler.hub_server import running_hub
from lineage.pipeline.run import run
from lineage.store.findings import current_findings
from lineage.store.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def with_folders(value, pocket):
    """A recipe whose Hub ids are replaced by the folders of the pocket Hub."""
    if isinstance(value, dict):
        return {key: with_folders(item, pocket) for key, item in value.items()}
    if isinstance(value, list):
        return [with_folders(item, pocket) for item in value]
    is_model = isinstance(value, str) and "/" in value and (pocket / value).is_dir()
    return str(pocket / value) if is_model else value


def test_recovered_recipes_rebuild_their_models_with_mergekit(pocket, tmp_path):
    pytest.importorskip("mergekit", reason="needs the extra 'pocket'")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from safetensors.torch import load_file

    home = Home(tmp_path / "home")
    with running_hub(pocket) as endpoint:
        run(home, endpoint)
    connection = home.open_working()
    recipes = {f.child: f.recipe_yaml for f in current_findings(connection) if f.recipe_yaml}
    connection.close()
    assert len(recipes) >= 8
    options = MergeOptions(cuda=False, copy_tokenizer=False, write_model_card=False, quiet=True)
    exact = 0
    for child, recipe in recipes.items():
        out = tmp_path / child.replace("/", "--")
        config = MergeConfiguration.model_validate(with_folders(yaml.safe_load(recipe), pocket))
        run_merge(config, str(out), options)
        rebuilt, stored = {}, {}
        for folder, tensors in ((out, rebuilt), (pocket / child, stored)):
            for file in folder.glob("*.safetensors"):
                tensors.update(load_file(str(file)))
        equal = sum(int((rebuilt[name] == stored[name]).sum()) for name in stored)
        total = sum(tensor.numel() for tensor in stored.values())
        assert equal / total > 0.995, child
        exact += equal == total
    assert exact >= 4
