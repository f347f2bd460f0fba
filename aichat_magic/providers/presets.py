"""The known servers of the OpenAI dialect: their addresses, and the environment variables of their own programs.

Addresses and variables as the providers' documentation has them (read 2026-11); a comment names what is not the
quickstart of its provider.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from ..core.endpoints import Preset


def ollama_address(text: str) -> str:
    """Return the address of Ollama's API for a value of ``OLLAMA_HOST``.

    It may be a host or an address, with or without a scheme, port and path, or a port alone (``:8080``); servers also
    set it to the address that they listen on (``0.0.0.0``), which clients call as this machine.

    Source: ollama/envconfig/config.go, `Host` (read 2026-11): port 11434, or the scheme's own where one is written.
    """
    text = text.strip().strip("\"'")
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    rest, _, path = rest.partition("/")
    if not found and rest == "ollama.com":
        scheme = "https"
    host, port = _host_and_port(rest)
    default = "" if found or scheme == "https" else "11434"
    number = port if port.isdecimal() and int(port) <= 65535 else default
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    host = f"[{host}]" if ":" in host else host
    base = f"{scheme}://{host}{f':{number}' if number else ''}/{path.strip('/')}".rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


def _host_and_port(text: str) -> tuple[str, str]:
    """Split ``host:port``; an IPv6 address may stand without brackets if there is no port."""
    try:
        return str(ipaddress.ip_address(text.strip("[]"))), ""
    except ValueError:
        host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
        return host.strip("[]"), port


def azure_address(text: str) -> str:
    """Return the address of the API for a value of ``AZURE_OPENAI_ENDPOINT``: a resource, or its endpoint.

    An endpoint with ``?api-version=`` alone is of the older API, whose addresses hold the deployment: the model.

    Source: "Azure OpenAI in Microsoft Foundry Models v1 API" and "Azure OpenAI REST API reference" (read 2026-11).
    """
    text = text.strip()
    if "://" not in text:
        text = f"https://{text}" if "." in text else f"https://{text}.openai.azure.com"
    parts = urlsplit(text)
    path = parts.path.strip("/")
    if path in ("", "openai"):
        path = "openai/deployments/{model}" if parts.query else "openai/v1"
    return parts._replace(path=f"/{path}").geturl()


def databricks_address(text: str) -> str:
    """Return the address of the API for a value of ``DATABRICKS_HOST``, with or without its scheme.

    Source: "Query a chat model" (docs.databricks.com, read 2026-11).
    """
    text = text.strip().rstrip("/")
    base = text if "://" in text else f"https://{text}"
    return base if urlsplit(base).path.strip("/") else f"{base}/serving-endpoints"


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "openai": Preset(base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY", needs_key=True),
        "ollama": Preset(
            base_url="http://localhost:11434/v1",
            key_env="OLLAMA_API_KEY",
            start="ollama serve",
            address_env="OLLAMA_HOST",
            read_address=ollama_address,
        ),
        "lmstudio": Preset(base_url="http://localhost:1234/v1", key_env="LMSTUDIO_API_KEY", start="lms server start"),
        "llamacpp": Preset(
            base_url="http://localhost:8080/v1", key_env="LLAMACPP_API_KEY", start="llama-server -m MODEL.gguf"
        ),
        "vllm": Preset(base_url="http://localhost:8000/v1", key_env="VLLM_API_KEY", start="vllm serve MODEL"),
        "openrouter": Preset(base_url="https://openrouter.ai/api/v1", key_env="OPENROUTER_API_KEY", needs_key=True),
        "groq": Preset(base_url="https://api.groq.com/openai/v1", key_env="GROQ_API_KEY", needs_key=True),
        "mistral": Preset(base_url="https://api.mistral.ai/v1", key_env="MISTRAL_API_KEY", needs_key=True),
        "deepseek": Preset(base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY", needs_key=True),
        "gemini": Preset(
            base_url="https://generativelanguage.googleapis.com/v1beta/openai",
            key_env="GEMINI_API_KEY",
            other_key_envs=("GOOGLE_API_KEY",),
            needs_key=True,
        ),
        "xai": Preset(base_url="https://api.x.ai/v1", key_env="XAI_API_KEY", needs_key=True),
        # The second variable is the one of LangChain's and others' integrations.
        "together": Preset(
            base_url="https://api.together.xyz/v1",
            key_env="TOGETHER_API_KEY",
            other_key_envs=("TOGETHER_AI_API_KEY",),
            needs_key=True,
        ),
        # The key goes into a header of its own; tokens of Entra ID go where OpenAI's keys go.
        "azure": Preset(
            base_url="",
            key_env="AZURE_OPENAI_API_KEY",
            needs_key=True,
            address_env="AZURE_OPENAI_ENDPOINT",
            read_address=azure_address,
            key_header="api-key",
            token_scope="https://cognitiveservices.azure.com/.default",
            token_extra="azure",
            token_help="sign in to Microsoft Entra ID: az login",
            token_hosts=(".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"),
        ),
        # huggingface.co/docs/inference-providers; the second variable is the older one of huggingface_hub.
        "huggingface": Preset(
            base_url="https://router.huggingface.co/v1",
            key_env="HF_TOKEN",
            other_key_envs=("HUGGING_FACE_HUB_TOKEN",),
            needs_key=True,
        ),
        # docs.fireworks.ai, "OpenAI compatibility".
        "fireworks": Preset(
            base_url="https://api.fireworks.ai/inference/v1", key_env="FIREWORKS_API_KEY", needs_key=True
        ),
        # inference-docs.cerebras.ai, "OpenAI Compatibility".
        "cerebras": Preset(base_url="https://api.cerebras.ai/v1", key_env="CEREBRAS_API_KEY", needs_key=True),
        # build.nvidia.com, "API Catalog".
        "nvidia": Preset(base_url="https://integrate.api.nvidia.com/v1", key_env="NVIDIA_API_KEY", needs_key=True),
        # docs.perplexity.ai, "Migrate from Sonar to the Agent API"; release notes of @ai-sdk/perplexity name the day.
        "perplexity": Preset(
            base_url="https://api.perplexity.ai",
            key_env="PERPLEXITY_API_KEY",
            needs_key=True,
            ended="Perplexity ended its chat API on 2026-09-27; the one that is left speaks another dialect. "
            "Its models are at OpenRouter: openrouter/perplexity/sonar.",
        ),
        # docs.aws.amazon.com/bedrock, "Responses API" and "Chat Completions"; the variable of the address is the one of
        # OpenAI's own clients (openai-node, bedrock.md).
        "bedrock": Preset(
            base_url="https://bedrock-runtime.{AWS_REGION|AWS_DEFAULT_REGION}.amazonaws.com/openai/v1",
            key_env="AWS_BEARER_TOKEN_BEDROCK",
            needs_key=True,
            address_env="AWS_BEDROCK_BASE_URL",
        ),
        "databricks": Preset(
            base_url="",
            key_env="DATABRICKS_TOKEN",
            needs_key=True,
            address_env="DATABRICKS_HOST",
            read_address=databricks_address,
        ),
        # platform.moonshot.ai; accounts in China have https://api.moonshot.cn/v1 (MOONSHOT_BASE_URL).
        "moonshot": Preset(base_url="https://api.moonshot.ai/v1", key_env="MOONSHOT_API_KEY", needs_key=True),
        # docs.z.ai, "OpenAI Python SDK".
        "zai": Preset(base_url="https://api.z.ai/api/paas/v4", key_env="ZAI_API_KEY", needs_key=True),
    }
)
