"""Questions in SQL that are worth asking of any published register."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SAVED", "SavedQuestion"]


@dataclass(frozen=True, slots=True)
class SavedQuestion:
    """A question: what its link is called, what the answer shows in a sentence, and the SQL."""

    title: str
    words: str
    sql: str


SAVED = (
    SavedQuestion(
        "Largest families",
        "Founders by how many models descend from them, over all parents.",
        """SELECT repo_id AS founder, n_descendants, n_children, downloads_30d, created_at
FROM model
WHERE repo_id = founder AND n_descendants > 0
ORDER BY n_descendants DESC, repo_id
LIMIT 100""",
    ),
    SavedQuestion(
        "Undeclared parents",
        "What the weights show and nobody declared, the most downloaded children first.",
        """SELECT edge.child, edge.parent, edge.kind, edge.weight AS share, edge.grade,
       edge.p_value, model.downloads_30d
FROM edge JOIN model ON model.repo_id = edge.child
WHERE edge.verdict = 'undeclared'
ORDER BY model.downloads_30d DESC NULLS LAST, edge.child, edge.position""",
    ),
    SavedQuestion(
        "Contradicted declarations",
        "Parents that were declared and that the weights deny, with the words of the declaration.",
        """SELECT edge.child, edge.parent AS declared, claim.source, claim.text AS words,
       finding.note AS found
FROM edge
JOIN claim ON claim.child = edge.child AND claim.parent = edge.parent
LEFT JOIN finding ON finding.child = edge.child
WHERE edge.verdict = 'contradicted'
ORDER BY edge.child, edge.parent, claim.source""",
    ),
    SavedQuestion(
        "Merges and their shares",
        "Models with several parents: how many, and the share of each where it is known.",
        """SELECT child, count(*) AS n_parents,
       string_agg(parent || coalesce(' ' || round(weight, 3)::VARCHAR, ''), ' + '
                  ORDER BY position) AS parents
FROM edge
WHERE relation = 'merge' AND verdict <> 'contradicted'
GROUP BY child
HAVING count(*) > 1
ORDER BY n_parents DESC, child
LIMIT 1000""",
    ),
    SavedQuestion(
        "Births by month and relation",
        "How many derived models were created in each month, by how they were made.",
        """SELECT date_trunc('month', model.created_at)::DATE AS month, edge.relation,
       count(*) AS births
FROM model JOIN edge ON edge.child = model.repo_id AND edge.position = 0
WHERE model.created_at IS NOT NULL
GROUP BY ALL
ORDER BY month, edge.relation""",
    ),
    SavedQuestion(
        "Licences that change on the way",
        "How often a child states another licence than its primary parent, by pair of licences.",
        """SELECT parent.licence AS parents_licence, child.licence AS childs_licence,
       count(*) AS n_edges, min(child.repo_id) AS example
FROM model AS child JOIN model AS parent ON parent.repo_id = child.primary_parent
WHERE child.licence <> parent.licence
GROUP BY ALL
ORDER BY n_edges DESC, parents_licence, childs_licence
LIMIT 200""",
    ),
    SavedQuestion(
        "Owners whose models are built upon",
        "Children that other owners made from an owner's models, counted once for each child.",
        """SELECT split_part(parent, '/', 1) AS owner, count(DISTINCT child) AS children_of_others,
       count(DISTINCT split_part(child, '/', 1)) AS other_owners
FROM edge
WHERE verdict <> 'contradicted' AND split_part(parent, '/', 1) <> split_part(child, '/', 1)
GROUP BY owner
ORDER BY children_of_others DESC, owner
LIMIT 100""",
    ),
    SavedQuestion(
        "The largest family by generation",
        "Its models by their distance from the founder. A clade is a range of drawing positions.",
        """WITH largest AS (SELECT pos, size FROM model ORDER BY size DESC, pos LIMIT 1)
SELECT model.generation, count(*) AS models, min(model.created_at) AS first_created,
       sum(model.downloads_30d) AS downloads_30d
FROM model, largest
WHERE model.pos BETWEEN largest.pos AND largest.pos + largest.size - 1
GROUP BY model.generation
ORDER BY model.generation""",
    ),
    SavedQuestion(
        "Parents outside the register",
        "Named as parents but never crawled here: removed, private, misspelt, or not asked for.",
        """SELECT edge.parent, count(*) AS children, min(edge.child) AS example
FROM edge LEFT JOIN model ON model.repo_id = edge.parent
WHERE model.repo_id IS NULL
GROUP BY edge.parent
ORDER BY children DESC, edge.parent
LIMIT 200""",
    ),
    SavedQuestion(
        "How old parents are",
        "Days from the creation of the primary parent to that of the child, by relation.",
        """SELECT edge.relation, count(*) AS edges,
       median(date_diff('day', parent.created_at, child.created_at)) AS median_days,
       quantile_cont(date_diff('day', parent.created_at, child.created_at), 0.9) AS days_of_90_pct
FROM edge
JOIN model AS child ON child.repo_id = edge.child
JOIN model AS parent ON parent.repo_id = edge.parent
WHERE edge.position = 0 AND parent.created_at IS NOT NULL AND child.created_at IS NOT NULL
GROUP BY edge.relation
ORDER BY edges DESC""",
    ),
    SavedQuestion(
        "Counts over time",
        "Downloads and likes when a model was first and last observed, where it was seen twice.",
        """SELECT repo_id, min(observed_at) AS first_seen, max(observed_at) AS last_seen,
       arg_min(downloads_30d, observed_at) AS downloads_then,
       arg_max(downloads_30d, observed_at) AS downloads_now,
       arg_max(likes, observed_at) - arg_min(likes, observed_at) AS likes_gained
FROM observation
WHERE source = 'hub'
GROUP BY repo_id
HAVING count(*) > 1
ORDER BY likes_gained DESC NULLS LAST, repo_id
LIMIT 500""",
    ),
    SavedQuestion(
        "Heredity and selection",
        "Every population estimate with its interval; no value means that none can be trusted.",
        """SELECT statistic, trait, fitness, population, value, low, high, level, n, n_clusters,
       p_value, method
FROM estimate
ORDER BY statistic, population, trait, fitness""",
    ),
    SavedQuestion(
        "Traits and how many models have them",
        "What was measured, on how many models, and the middle of what was found.",
        """SELECT name, metric, dataset, count(DISTINCT repo_id) AS models, min(value) AS least,
       median(value) AS median, max(value) AS most
FROM trait
GROUP BY ALL
ORDER BY models DESC, name""",
    ),
    SavedQuestion(
        "What could not be read",
        "Reasons why repositories or weights are missing from the comparison.",
        """SELECT stage, code, count(DISTINCT repo_id) AS models, min(reason) AS example
FROM problem
GROUP BY stage, code
ORDER BY models DESC, stage, code""",
    ),
)  # fmt: skip
"""The questions, in the order in which they are offered."""
