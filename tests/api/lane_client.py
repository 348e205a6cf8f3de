"""A test client whose requests pass the lane first, as gunicorn's do, and count which of them it answered."""

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import Client
from django.test.client import ClientHandler

from leaderboard_site.lane.application import answer_environ


class LaneHandler(ClientHandler):
    answered = 0

    def __call__(self, environ):
        answer = answer_environ(environ)
        if answer is None:
            return super().__call__(environ)
        self.answered += 1
        response = HttpResponse(answer.body, status=answer.status)
        del response.headers["Content-Type"]  # its own come below
        for name, value in answer.headers:
            response.headers[name] = value
        response.wsgi_request = WSGIRequest(environ)
        return response


class LaneClient(Client):
    def __init__(self, **defaults):
        super().__init__(**defaults)
        self.handler = LaneHandler(enforce_csrf_checks=False)

    @property
    def answered(self):
        """How many answers the lane gave."""
        return self.handler.answered
