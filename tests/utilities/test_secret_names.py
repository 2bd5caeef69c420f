import pytest

from core_engine.utilities.secret_names import is_secret_name


@pytest.mark.behaviour("D32")
@pytest.mark.parametrize(
    "name", ["token", "api_token", "PASSWORD", "db_password", "password_old", "client_secret", "api_key", "tokens"]
)
def test_names_of_secrets_are_recognised(name):
    assert is_secret_name(name)


@pytest.mark.behaviour("D32")
@pytest.mark.parametrize("name", ["x", "key", "tokenizer", "secretary", "token_count", "keyword", "monkey", "broken"])
def test_other_names_are_not(name):
    assert not is_secret_name(name)
