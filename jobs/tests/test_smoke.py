import pytest


@pytest.mark.django_db
def test_x():
    from leaderboards.services import default_leaderboard
    assert default_leaderboard().metric_list[0].name == "image_auc"
