"""Which names and texts are secrets: what is found, what is left alone, and at what cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lback_relay.redaction import (
    REPLACEMENT,
    is_oauth_exchange,
    is_secret_name,
    looks_random,
    may_hold_secrets,
    redact_bytes,
    redact_text,
)

SECRET = "s3cr3t-V4lue.x"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.dozjgNryP4J3jVmNHl0w5N"
BCRYPT = "$2b$12$abcdefghijklmnopqrstuvABCDEFGHIJKLMNOPQRSTUVWXYZ01234"


@pytest.mark.parametrize(
    "name",
    # One name a line would fill a page.
    """
    password PASSWORD user_password plain-password newPassword passwd passphrase pwd pw
    email_verification_token auth_token accessToken token tokens token_prefix reset_token_url
    client_secret SECRET_KEY X-API-Key apiKey api_key accessKey private_key aws_access_key_id
    Authorization Proxy-Authorization HTTP_AUTHORIZATION HTTP_COOKIE Cookie Set-Cookie
    csrf_token X-CSRFToken xsrf jwt JWT credentials session_id sessionid session-key PHPSESSID
    signature x-hub-signature auth bearer otp totp user_pin sid password_type2
    OTPCode PINCode SIDValue APIKey userSId HTTPAuth JWTValue
    secret_args client_secret_array token_issued secret_argument secret_area tokenIssuer
    secretargs secretarea tokenissued tokenize_secret secretary_password
    """.split(),  # noqa: SIM905
)
def test_a_secrets_name_is_recognized(name: str) -> None:
    """In any case, with any separators, with words around it."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    """
    username email id path method user session author authority authenticated pinned opinion
    spin side inside residence basic keyboard monkey tokenize tokenizer secretary secretariat
    token_type token_expires password_length password_required token_expires_at jwt_algorithm
    tokenised tokenization detokenize secretaries secretarial OTPType PINCount SPINCode HTTPSId
    session_id_field auth_type status_code state code key primary_key public passage
    """.split(),  # noqa: SIM905
)
def test_an_innocent_name_is_left_alone(name: str) -> None:
    """Also one that only begins alike, or that tells about a secret."""
    assert not is_secret_name(name)


@pytest.mark.parametrize("name", ["", "-", "名前"])
def test_a_name_without_words_is_left_alone(name: str) -> None:
    """Keys may be anything."""
    assert not is_secret_name(name)


SECRETS = {
    "userinfo": f"redis://worker:{SECRET}@db.example.org/0",
    "userinfo without password": f"https://{SECRET}@api.example.org",
    "query": f"/verify/?token={SECRET}&next=/home",
    "query in any case": f"/login?Access_Token={SECRET}",
    "encoded query": f"/x?next=%2F%3Ftoken%3D{SECRET}",
    "assignment": f"could not log in with password={SECRET}",
    "colon": f"password: {SECRET}",
    "JSON": f'{{"user": "ada", "password": "{SECRET}"}}',
    "JSON with spaces": f'{{"api_key" :  "{SECRET} and more"}}',
    "JSON in JSON": f'{{\\"password\\": \\"{SECRET}\\"}}',
    "repr of a dict": f"{{'password': '{SECRET}', 'id': 7}}",
    "repr of bytes": f"{{'password': b'{SECRET}'}}",
    "arrow": f"'secret' => '{SECRET}'",
    "unclosed quote": f'password="{SECRET} cut he',
    "form data": f"user[password]={SECRET}",
    "SQL parameters": f"[parameters: {{'auth_token': '{SECRET}'}}]",
    "prose": f"invalid token '{SECRET}'",
    "environment": f"DB_PASSWORD={SECRET} DEBUG=1",
    "cookie": f"Cookie: theme=dark; sid={SECRET}",
    "cookie with a plain name": f"Set-Cookie: a={SECRET}; HttpOnly",
    "authorization": f"Authorization: Digest {SECRET}",
    "bearer": f"sent with bearer {SECRET}",
    "basic": "header was Basic dXNlcjpzM2NyM3Q=",
    "JWT": f"rejected {JWT}",
    "JWT of two parts": f"rejected {JWT.rpartition('.')[0]}",
    "JWT behind an escape": f"x=Bearer%20{JWT}",
    "bcrypt": f"hash is {BCRYPT}",
    "argon2": "hash is $argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub",
    "crypt": "hash is $6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2",
    "Django": "hash is pbkdf2_sha256$600000$salt$dGhlIGhhc2ggdmFsdWU=",
    "Werkzeug": "hash is scrypt:32768:8:1$salt$aabbccddeeff",
    "verification link": "see https://h/verify-email/AbCdEf0123456789xyz",
    "reset link": "see /auth/password-reset/17/AbCdEf0123456789xyz/",
    "hidden input": f'<input type="hidden" name="csrf_token" value="{SECRET}">',
    "hidden input, value first": f"<INPUT value='{SECRET}' name=csrf_token>",
    "hidden input, cut": f'<input name="csrf_token" value="{SECRET}',
    "meta": f'<meta name="csrf-token" content="{SECRET}">',
    "JSON list": f'{{"user": "ada", "password": ["{SECRET}"]}}',
    "JSON list of several": f'{{"tokens": [1, "a b", "{SECRET}"]}}',
    "JSON map": f'{{"password": {{"raw": "{SECRET}"}}}}',
    "JSON map in JSON": f'{{\\"password\\": {{\\"raw\\": \\"{SECRET}\\"}}}}',
    "JSON of several lines": f'{{\n  "password": {{\n    "raw": {{\n      "a": "b"\n    }},\n'
    f'    "old": "{SECRET}"\n  }}\n}}',
    "JSON behind an innocent name": f'{{"token_type": {{"password": "{SECRET}"}}}}',
    "JSON in an innocent text": f"token_type='x password={SECRET} y'",
    "JSON, percent-encoded": f"q=%7B%22password%22%3A%22{SECRET}%22%7D",
    "JSON, percent-encoded with blanks": f"%22password%22%3A+%22a,{SECRET}%22%7D",
    "JSON, percent-encoded list": f"%22password%22:%20%5B%22a%22,%22{SECRET}%22%5D",
    "assignment, percent-encoded": f"password%3D{SECRET}",
    "repr of a tuple": f"{{'password': ('{SECRET}',)}}",
    "repr of an object": f"password=pydantic.SecretStr('{SECRET}')",
    "form list": f"password[]={SECRET}",
    "form index": f"user[password][0]={SECRET}",
    "form data, percent-encoded": f"user%5Bpassword%5D={SECRET}",
    "quoted line break": f"password='abc\n{SECRET}'",
    "quoted line breaks": f'failed: token "ab\n\nc {SECRET}", sorry',
    "one letter": f"password=b token={SECRET}",
    "acronym": f"OTPCode={SECRET}",
    "long name": f"password_{'a' * 200}={SECRET}",
    "input with a long name": f'<input name="{"a" * 256}_password" value="{SECRET}">',
    "OAuth callback": "/callback?code=4/0AX4XfWjyz&state=af0ifjsldkj",
    "OAuth code alone": "/callback?code=4/0AX4XfWjyz",
}
HIDDEN = [
    SECRET,
    "dXNlcjpzM2NyM3Q",
    *JWT.split("."),
    BCRYPT[7:],
    "RdescudvJCsgt3ub",
    "qFmFH.bQmmtXzyBY0s9v7",
    "dGhlIGhhc2ggdmFsdWU",
    "aabbccddeeff",
    "AbCdEf0123456789xyz",
    "0AX4XfWjyz",
    "af0ifjsldkj",
]


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_taken_out_of_a_text(text: str) -> None:
    """The rest of the text stays, once redacted it does not change, and bytes are as text."""
    clean = redact_text(text)
    assert REPLACEMENT in clean
    assert not [secret for secret in HIDDEN if secret in clean]
    assert redact_text(clean) == clean
    assert redact_bytes(text.encode()) == clean.encode()
    assert may_hold_secrets(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("redis://u:p4ss@h:1/0 failed", "redis://[redacted]@h:1/0 failed"),
        ("/a?token=x1&next=/b#c", "/a?token=[redacted]&next=/b#c"),
        ('{"password": "a b", "id": 7}', '{"password": "[redacted]", "id": 7}'),
        ("Cookie: a=1; b=2\r\nHost: h", "Cookie: [redacted]\r\nHost: h"),
        ("Bearer abcdefgh1 was sent", "Bearer [redacted] was sent"),
        ('{"password": ["a"], "b": 1}\nnext', '{"password": [redacted]\nnext'),
        ('"password": {\n    "a": 1\n  },\n  "b": 2', '"password": [redacted]\n  },\n  "b": 2'),
        ("password={\nplain next line", "password=[redacted]\nplain next line"),
        ("password='a\nb' and c", "password='[redacted]' and c"),
        # Quotes that may begin another text end none.
        ("password='a\nthe name 'b' is", "password='[redacted]'\nthe name 'b' is"),
        ('password="a\nname="b" is', 'password="[redacted]"\nname="b" is'),
        ("password='a\nit's", "password='[redacted]'\nit's"),
        ("password='a" + "\nb" * 600 + "'", "password='[redacted]'" + "\nb" * 600 + "'"),
        ("user[password]=a&b=c", "user[password]=[redacted]&b=c"),
        ("%22token%22%3A%22a%22&b=c", "%22token%22%3A[redacted]&b=c"),
        (
            '<input name="csrf_token" value="x"><input name="q" value="y">',
            '<input name="csrf_token" value="[redacted]"><input name="q" value="y">',
        ),
    ],
)
def test_what_stands_around_a_secret_stays(text: str, clean: str) -> None:
    """A log line is still of use."""
    assert redact_text(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain prose, with a colon: and an equals = sign",
        "https://example.org/path?page=2&sort=name#top",
        "mail ada@example.org about https://example.org",
        "the token_type is bearer, token_type=bearer",
        "password_length: 12",
        "basic knowledge of bearer instruments",
        "basic authentication",
        "state=California",
        "/orders?state=paid&page=1",
        "the error code=404 was returned",
        "costs $5 and $20",
        "tokenize=yes",
        '{"tokens": [], "secrets": {}}',
        "q=%7B%22user%22%3A%22ada%22%7D",
        '{"token_type": ["bearer"], "token_count": {"a": 1}}',
        "secretary: Ada",
        "/verify-email/ and /reset/17",
        "/products/a-very-long-product-name-2026",
        '<input name="q" value="shoes"><meta name="author" content="Ada">',
        "<input>",
        "eyJust a word",
        "eyJnotadot12345 alone",
        "password: //comment",
        "12:30:45 'quoted' \"twice\"",
        "naïve: ünïcode = ✓",
    ],
)
def test_an_innocent_text_is_left_alone(text: str) -> None:
    """It is the very same object, so that the caller need not compare."""
    assert redact_text(text) is text
    data = text.encode()
    assert redact_bytes(data) is data


def test_bytes_that_are_no_text_are_searched_too() -> None:
    """Bodies and files come as bytes of any kind."""
    assert redact_bytes(b"\xff\xfe password=abc \x00") == b"\xff\xfe password=[redacted] \x00"


def test_code_and_state_are_secrets_among_their_like() -> None:
    """Both together, or beside what only OAuth has."""
    assert is_oauth_exchange({"code", "state"})
    assert is_oauth_exchange(["code", "redirect_uri"])
    assert is_oauth_exchange({"state": 1, "token_data": 2})
    assert not is_oauth_exchange({"code", "message"})
    assert not is_oauth_exchange([])


@pytest.mark.parametrize("value", ["4/0AX4XfWjyz", "AbCdEfGhIj", "a1b2c3d4e5"])
def test_a_generated_value_is_recognized(value: str) -> None:
    """Letters and digits, or letters in mixed case."""
    assert looks_random(value)


@pytest.mark.parametrize(
    "value",
    ["paid", "shipped_today", "California", "PENDING_REVIEW", "two words", "12345678", 7, ""],
)
def test_a_written_value_is_no_generated_one(value: object) -> None:
    """Words and numbers that people choose."""
    assert not looks_random(value)


SIZE = 500_000
ADVERSARIAL = {
    "JWT beginnings": "eyJ",
    "JWT beginnings and dots": "eyJaaaaa.",
    "pbkdf2": "pbkdf2$pbkdf2:pbkdf2",
    "pbkdf2 without dollar": "pbkdf2",
    "scrypt": "scrypt:",
    "crypt": "$6$",
    "argon": "$argon2",
    "open tags": "<input ",
    "open tags with values": "<input value=",
    "open tags with quotes": "<meta content='",
    "assignments without value": "token=",
    "unclosed quotes": "token='a token=\"b ",
    "escaped quotes": 'token=\\"a',
    "names": "password",
    "names and dashes": "token-",
    "names and spaces": "token        ",
    "userinfo": "://a",
    "slashes": "/",
    "links": "/verif",
    "links and slashes": "/verif/aaaaaaaa/",
    "bearer": "bearer ",
    "basic and much space": "basic         \t",
    "headers": "cookie:",
    "headers without colon": "authorization    ",
    "parameters": "&code=",
    "spaces": " ",
    "quotes": "'\"",
    "backslashes": "\\",
    "equals": "=",
    "lists": "token=[",
    "maps of lines": "token={\n ",
    "innocent maps": '"token_type": {',
    "quotes over lines": "token='a\n",
    "quotes of all kinds over lines": "token='\ntoken=\"\ntoken=\\'\ntoken=\\\"\n",
    "names and calls": "token=aaaa('",
    "names and words": "token=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.",
    "names and indices": "token[a][b][c]",
    "names and encoded indices": "token%5Ba%5D%5D",
    "encoded JSON": "%22token%22%3A%22",
    "encoded blanks": "token%3A%20%20+",
    "acronyms": "OTPCode",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", ["", "$=:'\"<@://code=\\"], ids=["bare", "with signs"])
@pytest.mark.parametrize("piece", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_a_long_text_takes_linear_time(piece: str, end: str) -> None:
    """Half a million characters made to be read again and again.

    Were any rule quadratic, the timeout would end the test.
    """
    text = "$ = : ://@ < " + piece * (SIZE // len(piece)) + end
    redact_text(text)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["x", "aB", "A", "-", "a-", "tokenize", "Ab1"])
def test_a_long_name_is_no_burden(piece: str) -> None:
    """Keys of any length come from outside: a name without end is a secret, and read no further."""
    for _ in range(1000):
        assert is_secret_name(piece * SIZE)


@pytest.mark.parametrize("length", [0, 240, 250, 255, 256, 257, 1000, 4000])
def test_a_long_name_is_judged_as_a_whole(length: int) -> None:
    """Wherever in it the secret's name stands."""
    for filling in ("a", "a_"):
        around = filling * (length // len(filling))
        assert is_secret_name(f"{around}_password")
        assert is_secret_name(f"password_{around}_")
        assert is_secret_name(f"{around}_password_{around}")
        assert not is_secret_name(f"{around}_name")


PIECES = [
    *SECRETS.values(),
    *ADVERSARIAL,
    *ADVERSARIAL.values(),
    *("DETAIL:  Key (a)=(b)", "Duplicate entry 'x' for", "[parameters: ('x', 1)]"),
    *("pa\u017f\u017fword", "to\u212aen"),  # long s and Kelvin's sign fold to s and k
    *("%3D", "https://", "u:p@h", "a@b.c", "/reset/", "CODE=", "09:30:00"),
    *(
        "\n",
        " ",
        "abcdefgh1",
        "é",
        "%22",
        "%3A",
        "%3d",
        "%5D",
        "[",
        "{",
        "(",
        "'",
        "password",
        "OTPCode",
    ),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=6).map("".join))
def test_no_text_with_a_secret_is_taken_for_a_harmless_one(text: str) -> None:
    """Neither alone nor as a line among others."""
    if redact_text(text) != text:
        assert may_hold_secrets(text)
        assert may_hold_secrets(f"Grace\n{text}\n2026-03-01T09:30:00")


def test_usual_texts_are_taken_for_harmless() -> None:
    """Or the quick look would be of no use."""
    texts = [
        "grace.hopper",
        "grace.hopper@example.org",
        "2026-03-01T09:30:00.123456",
        "https://shop.example.org/users/4711",
        "Grace Hopper, confirmed in May",
    ]
    assert not may_hold_secrets("\n".join(texts))


@pytest.mark.parametrize(
    "text",
    [
        "DETAIL:  Key (email)=(planted@example.org) already exists.",
        "DETAIL:  Failing row contains (1, planted).",
        "Duplicate entry 'planted' for key 'token'",
        "The duplicate key value is (planted). (2627)",
        "[parameters: ('planted', 1)]",
    ],
)
def test_a_row_in_a_databases_words_is_taken_out(text: str) -> None:
    """The columns are not named, so that a secret among the values can't be told."""
    clean = redact_text(f"it failed\n{text}\nand ended")
    assert "planted" not in clean
    assert clean.startswith("it failed\n")
    assert clean.endswith("\nand ended")
    assert redact_text(clean) == clean


def test_a_detail_that_is_no_row_stays() -> None:
    """Everyday words are not a database's."""
    assert redact_text("DETAIL: the blue one, please") == "DETAIL: the blue one, please"
