"""The proving ground: hundreds of small trained models whose every ancestor is known.

``python -m benchmarks.zoo build --out FOLDER`` trains, edits and merges them; the folder is laid
out as the pocket Hub is, so every command runs on it (``herdbook hub serve FOLDER``).
:mod:`benchmarks.zoo.plan` says what is bred, :mod:`benchmarks.zoo.published_merges` how people
merge, :mod:`benchmarks.zoo.report` whether the changes are those of the field.
"""
