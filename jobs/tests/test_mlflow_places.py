"""Nobody holds every request that goes to MLflow at once; an answer that is not read to its end is one that is slow."""

import threading
import time

import pytest
from django.test import Client

from accounts.refusals import QuotaExceeded, Unavailable
from accounts.tests.factories import UserFactory
from jobs import mlflow_proxy
from jobs.mlflow_places import Places

APP = "/mlflow/app"


def someone(**given):
    client = Client()
    client.force_login(UserFactory(**given))
    return client


def read(answer):
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


@pytest.fixture
def slow(db, mlflow_url, monkeypatch):
    """Ask for MLflow's page and leave the answer unread; all are read in the end. Who finds no place waits a moment only."""
    monkeypatch.setattr(mlflow_proxy, "SECONDS_TO_CONNECT", 0.5)
    answers = []

    def ask(client):
        answers.append(client.get(APP))
        return answers[-1]

    yield ask
    for answer in answers:
        read(answer)


@pytest.mark.parametrize("is_operator", [False, True], ids=["participant", "operator"])
def test_a_slow_person_shuts_nobody_else_out(slow, is_operator):
    hog, other = someone(is_staff=is_operator, is_superuser=is_operator), someone()
    held = [slow(hog) for _ in range(2)]
    assert [answer.status_code for answer in held] == [200, 200]
    refused = slow(hog)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert "not answered yet" in refused.text
    assert [slow(other).status_code for _ in range(2)] == [200, 200]
    late = slow(someone())
    assert (late.status_code, late.headers["Retry-After"]) == (503, "5")

    read(held[0])
    assert slow(hog).status_code == 200


def test_a_place_is_waited_for_and_given_back():
    places = Places(2, 1)
    places.take(1, 0)
    with pytest.raises(QuotaExceeded):
        places.take(1, 0.01)
    places.take(2, 0)
    with pytest.raises(Unavailable):
        places.take(3, 0.01)
    threading.Timer(0.2, places.give_back, [1]).start()
    places.take(3, 30)
    places.give_back(2)
    places.give_back(3)
    assert not places._taken


def test_many_at_once_never_pass_either_limit():
    places, now, most, lock = Places(4, 2), {1: 0, 2: 0, 3: 0}, [0, 0], threading.Lock()

    def use(person):
        for _ in range(20):
            places.take(person, 30)
            with lock:
                now[person] += 1
                most[:] = max(most[0], sum(now.values())), max(most[1], now[person])
            time.sleep(0.001)
            with lock:
                now[person] -= 1
            places.give_back(person)

    threads = [threading.Thread(target=use, args=[person]) for person in (1, 2, 3) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [4, 2]
    assert not places._taken
