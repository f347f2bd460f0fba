import dataclasses

import pytest
from needs import needs

from aichat_magic.chat.chat import Chat
from aichat_magic.core.errors import ConfigError
from aichat_magic.core.messages import Message
from aichat_magic.core.options import CallOptions
from aichat_magic.core.prices import Price, PriceList
from aichat_magic.core.settings import Settings, load_settings
from aichat_magic.core.usage import Usage
from aichat_magic.store.memory import MemoryStore

needs_package = needs("genai_prices")
USED = Usage(input_tokens=1_000_000, output_tokens=500_000, cached_tokens=200_000)


def test_price_is_by_the_million_and_cached_tokens_have_their_own() -> None:
    assert Price(input=1.0, output=4.0).of(USED) == pytest.approx(3.0)
    assert Price(input=1.0, output=4.0, cached=0.5).of(USED) == pytest.approx(2.9)


def test_writes_to_the_cache_cost_more_than_other_input_and_for_an_hour_twice_as_much() -> None:
    written = Usage(input_tokens=1_000_000, output_tokens=0, cache_write_tokens=400_000)
    for_an_hour = dataclasses.replace(written, cache_write_1h_tokens=400_000)
    half = dataclasses.replace(written, cache_write_1h_tokens=200_000)
    price = Price(input=4.0, output=1.0)
    assert price.of(written) == pytest.approx(0.6 * 4 + 0.4 * 5)
    assert price.of(for_an_hour) == pytest.approx(0.6 * 4 + 0.4 * 8)
    assert price.of(half) == pytest.approx(0.6 * 4 + 0.2 * 5 + 0.2 * 8)
    assert Price(input=4.0, output=1.0, cache_write=4.0).of(written) == pytest.approx(4.0)


@pytest.mark.parametrize(
    "parts",
    [{"cached_tokens": 10**9}, {"cache_write_tokens": 10**9}, {"cache_write_1h_tokens": 10**9},
     {"cached_tokens": 10**9, "cache_write_tokens": 10**9, "cache_write_1h_tokens": 10**9}],
)  # fmt: skip
def test_no_part_of_the_input_is_larger_than_all_of_it(parts: dict[str, int]) -> None:
    price = Price(input=1.0, output=1.0, cached=0.1, cache_write=2.0)
    cost = price.of(Usage(input_tokens=1_000_000, output_tokens=0, **parts))
    assert cost is not None
    assert 0.1 <= cost <= 2.0


@needs_package
def test_published_prices_know_the_cache_too() -> None:
    def cost(**parts: int) -> float:
        used = Usage(input_tokens=1_000_000, output_tokens=0, **parts)
        found = PriceList().cost_usd("anthropic", "claude-haiku-4-5", used, is_at_home=True)
        assert found is not None
        return found

    plain = cost()
    assert cost(cached_tokens=1_000_000) < plain
    assert cost(cached_tokens=2_000_000) == cost(cached_tokens=1_000_000)
    assert cost(cache_write_tokens=1_000_000) == pytest.approx(1.25 * plain)
    assert cost(cache_write_tokens=1_000_000, cache_write_1h_tokens=1_000_000) == pytest.approx(2 * plain)


def test_unknown_tokens_have_an_unknown_price() -> None:
    assert Price(input=1.0, output=4.0).of(Usage(input_tokens=5)) is None


def test_unknown_model_has_an_unknown_price_never_0() -> None:
    assert PriceList().cost_usd("ollama", "llama", USED, is_at_home=True) is None


def test_users_own_price_wins() -> None:
    prices = PriceList({"openai/gpt-5-mini": Price(input=0, output=2)})
    assert prices.cost_usd("openai", "gpt-5-mini", USED, is_at_home=True) == pytest.approx(1.0)


def test_cost_that_the_provider_tells_stands() -> None:
    assert PriceList().cost_usd("x", "y", Usage(cost_usd=0.0), is_at_home=True) == 0.0


@pytest.mark.parametrize(
    ("provider", "tier", "cost"),
    [
        ("openai", "", 3.0),
        ("openai", "flex", 1.5),
        ("azure", "flex", 1.5),
        ("gemini", "flex", 1.5),
        ("groq", "flex", 3.0),
        ("lab", "flex", None),
        ("openai", "priority", None),
        ("openai", "ultrafast", None),
    ],
)
def test_tier_has_its_own_price_or_an_unknown_one(provider: str, tier: str, cost: float | None) -> None:
    prices = PriceList({f"{provider}/m": Price(input=1.0, output=4.0)})
    assert prices.cost_usd(provider, "m", USED, is_at_home=True, tier=tier) == cost


def test_users_own_price_of_a_tier_wins() -> None:
    prices = PriceList({"openai/m": Price(input=1, output=4), "openai/m@priority": Price(input=2, output=8)})
    assert prices.cost_usd("openai", "m", USED, is_at_home=True, tier="priority") == pytest.approx(6.0)
    assert prices.cost_usd("openai", "m", USED, is_at_home=True) == pytest.approx(3.0)


@needs_package
def test_published_price_holds_for_the_providers_own_server_only() -> None:
    at_home = PriceList().cost_usd("openai", "gpt-5-mini", USED, is_at_home=True)
    assert at_home is not None
    assert at_home > 0
    assert PriceList().cost_usd("openai", "gpt-5-mini", USED, is_at_home=False) is None


@needs_package
def test_call_to_another_address_has_no_published_price() -> None:
    chat = Chat(settings=lambda: Settings(environ={"OPENAI_API_KEY": "k"}), store=MemoryStore())
    hello = (Message("user", "x"),)
    assert chat.call(hello, CallOptions(model="openai/gpt-5-mini")).priced(USED).cost_usd is not None
    elsewhere = chat.call(hello, CallOptions(model="openai/gpt-5-mini", base_url="http://localhost:1/v1"))
    assert elsewhere.priced(USED).cost_usd is None


def test_embedded_model_is_free_before_and_after() -> None:
    chat = Chat(settings=Settings, store=MemoryStore())
    call = chat.call((Message("user", "x"),), CallOptions(model="local/smollm2-135m"))
    assert call.priced(Usage(input_tokens=5, output_tokens=1)).cost_usd == 0.0


@pytest.mark.parametrize(
    "text",
    ['[prices]\n"a/b" = 3', '[prices."a/b"]\ninput = 1', '[prices."a/b"]\ninput = 1\noutput = -1',
     '[prices."a/b"]\ninput = 1\noutput = 2\ncashed = 3', '[prices."a/b"]\ninput = "1"\noutput = 2'],
)  # fmt: skip
def test_wrong_price_in_the_file_is_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="a/b"):
        load_settings({}, path)


def test_price_in_the_file_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text('[prices."lab/m"]\ninput = 1\noutput = 2.5\ncache_write = 1.5\n')
    assert load_settings({}, path).prices["lab/m"] == Price(input=1, output=2.5, cache_write=1.5)
