"""The client is run against a real Hub in `test_supervisor`; here, against servers that refuse."""

import asyncio

import pytest
from aiohttp import web

from dltlab.workshop.learner_client import LearnerClient, RehearsalError

PAGE = '<input name="_xsrf" value="token"><p class="login_error" role="alert">{}</p>'


async def visit(handler):
    """Let a learner sign in at a server that answers with a handler."""
    app = web.Application()
    app.router.add_route("*", "/hub/login", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with LearnerClient(f"http://127.0.0.1:{port}") as learner:
            await learner.sign_in("a-b-c")
    finally:
        await runner.cleanup()


def test_what_the_page_says_of_a_refused_code_is_raised():
    async def refuse(request):
        error = "" if request.method == "GET" else "No card has this code."
        return web.Response(text=PAGE.format(error), content_type="text/html")

    with pytest.raises(RehearsalError, match=r"^No card has this code\.$"):
        asyncio.run(visit(refuse))


def test_a_page_that_is_no_sign_in_page_is_named():
    async def fail(_):
        return web.Response(status=502)

    with pytest.raises(RehearsalError, match=r"The sign-in page answers 502\."):
        asyncio.run(visit(fail))
