"""How well weights tell swapped labels from clean ones."""

import pyarrow.compute as pc
import pytest

from support.rows import row_set
from synthweight.errors import UserError
from synthweight.reporting.tables.noise_detection import noise_detection_table, weight_aucs


def test_auc_of_the_weights_per_epoch(timed):
    """Two examples: CE weighs them alike, the others the clean one above the swapped one."""
    by_loss = {line[2]: line for line in noise_detection_table(row_set(*timed)).lines}
    epochs = [[cell.mean for cell in by_loss[loss][-2:]] for loss in ("ce", "imp", "dimp")]
    assert epochs == [[0.5, 0.5], [1.0, 1.0], [1.0, 1.0]]
    assert [str(cell) for cell in by_loss["imp"][-4:-2]] == ["60.5 ± 0.7", "30.0 ± 0.0"]


def test_without_a_swapped_label_there_is_nothing_to_detect(timed):
    store, _ = timed
    content, table = store.row("ce0"), store.table("ce0")
    store.json_path("ce0").unlink()
    store.write_row(content, table.filter(pc.field("kind") == "original"))
    with pytest.raises(UserError, match=r"set corruption\.swapped"):
        weight_aucs(store, "ce0")
