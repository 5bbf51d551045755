//! The providers there are: their names, addresses, the variables that hold their keys, and what they keep of a question.
//!
//! Owns the table. A provider that genai can reach but cannot call tools with (its `cohere` adapter) is reached over the
//! provider's OpenAI-shaped address instead.

use cantrip_gates::suggest::hint;
use genai::adapter::AdapterKind;

use crate::domain::model::ModelError;

/// The shape of a provider's requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// `POST chat/completions`.
    OpenAi,
    /// `POST responses`.
    Responses,
    /// `POST messages`.
    Anthropic,
    /// `POST models/…:streamGenerateContent`.
    Gemini,
    /// `POST api/chat`, one JSON object a line.
    Ollama,
}

/// What is known about a provider.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name in a cantrip file.
    pub(super) name: &'static str,
    /// genai's name for it.
    pub(super) kind: AdapterKind,
    /// The shape of its wire.
    pub(super) wire: Wire,
    /// Its address; empty where there is no usual one.
    pub(super) base_url: &'static str,
    /// The variables that usually hold its key, the usual one first; none: it asks for no key.
    pub(super) key_variables: &'static [&'static str],
    /// The variables that may move its address.
    pub(super) base_variables: &'static [&'static str],
    /// Whether `tool_choice = required` can be relied on.
    pub(super) keeps_required: bool,
    /// Whether it wants its reasoning back as plain text.
    pub(super) wants_thinking: bool,
}

const fn openai_like(
    name: &'static str,
    kind: AdapterKind,
    base_url: &'static str,
    key_variables: &'static [&'static str],
    base_variables: &'static [&'static str],
) -> Entry {
    let wire = Wire::OpenAi;
    Entry { name, kind, wire, base_url, key_variables, base_variables, keeps_required: true, wants_thinking: false }
}

/// Every provider, in the order in which they are listed to people.
pub(super) const ENTRIES: &[Entry] = &[
    openai_like("openai", AdapterKind::OpenAI, "https://api.openai.com/v1/", &["OPENAI_API_KEY"], &["OPENAI_BASE_URL"]),
    Entry {
        wire: Wire::Responses,
        ..openai_like(
            "openai_responses",
            AdapterKind::OpenAIResp,
            "https://api.openai.com/v1/",
            &["OPENAI_API_KEY"],
            &["OPENAI_BASE_URL"],
        )
    },
    // llama.cpp, vLLM, LM Studio and their like: some keep `required`, some ignore it without a word.
    Entry {
        keeps_required: false,
        ..openai_like("openai_compatible", AdapterKind::OpenAI, "", &[], &["OPENAI_BASE_URL"])
    },
    // Anthropic refuses a forced call while the model thinks; `convert` then asks with `auto`.
    Entry {
        wire: Wire::Anthropic,
        keeps_required: false,
        ..openai_like(
            "anthropic",
            AdapterKind::Anthropic,
            "https://api.anthropic.com/v1/",
            &["ANTHROPIC_API_KEY"],
            &["ANTHROPIC_BASE_URL"],
        )
    },
    Entry {
        wire: Wire::Gemini,
        ..openai_like(
            "gemini",
            AdapterKind::Gemini,
            "https://generativelanguage.googleapis.com/v1beta/",
            &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
            &["GOOGLE_GEMINI_BASE_URL", "GEMINI_BASE_URL"],
        )
    },
    // Ollama's own wire has no `tool_choice` at all.
    Entry {
        wire: Wire::Ollama,
        keeps_required: false,
        ..openai_like(
            "ollama",
            AdapterKind::Ollama,
            "http://127.0.0.1:11434/",
            &[],
            &["OLLAMA_HOST", "OLLAMA_BASE_URL"],
        )
    },
    Entry {
        wire: Wire::Ollama,
        keeps_required: false,
        ..openai_like("ollama_cloud", AdapterKind::OllamaCloud, "https://ollama.com/", &["OLLAMA_API_KEY"], &[])
    },
    openai_like(
        "openrouter",
        AdapterKind::OpenRouter,
        "https://openrouter.ai/api/v1/",
        &["OPENROUTER_API_KEY", "OPEN_ROUTER_API_KEY"],
        &["OPENROUTER_BASE_URL"],
    ),
    openai_like("groq", AdapterKind::Groq, "https://api.groq.com/openai/v1/", &["GROQ_API_KEY"], &["GROQ_BASE_URL"]),
    Entry {
        wants_thinking: true,
        ..openai_like(
            "deepseek",
            AdapterKind::DeepSeek,
            "https://api.deepseek.com/v1/",
            &["DEEPSEEK_API_KEY"],
            &["DEEPSEEK_BASE_URL"],
        )
    },
    openai_like("xai", AdapterKind::Xai, "https://api.x.ai/v1/", &["XAI_API_KEY"], &["XAI_BASE_URL"]),
    Entry {
        wants_thinking: true,
        ..openai_like(
            "mistral",
            AdapterKind::Mistral,
            "https://api.mistral.ai/v1/",
            &["MISTRAL_API_KEY"],
            &["MISTRAL_BASE_URL"],
        )
    },
    openai_like(
        "together",
        AdapterKind::Together,
        "https://api.together.xyz/v1/",
        &["TOGETHER_API_KEY"],
        &["TOGETHER_BASE_URL"],
    ),
    openai_like(
        "fireworks",
        AdapterKind::Fireworks,
        "https://api.fireworks.ai/inference/v1/",
        &["FIREWORKS_API_KEY"],
        &["FIREWORKS_BASE_URL"],
    ),
    Entry {
        keeps_required: false,
        ..openai_like(
            "cohere",
            AdapterKind::OpenAI,
            "https://api.cohere.ai/compatibility/v1/",
            &["COHERE_API_KEY", "CO_API_KEY"],
            &["COHERE_BASE_URL"],
        )
    },
    Entry {
        wants_thinking: true,
        ..openai_like(
            "moonshot",
            AdapterKind::Kimi,
            "https://api.moonshot.ai/v1/",
            &["MOONSHOT_API_KEY", "KIMI_API_KEY"],
            &["MOONSHOT_BASE_URL"],
        )
    },
    // genai's own `zai` adapter ignores a configured address.
    openai_like("zai", AdapterKind::OpenAI, "https://api.z.ai/api/paas/v4/", &["ZAI_API_KEY"], &["ZAI_BASE_URL"]),
    openai_like(
        "qwen",
        AdapterKind::QwenCloud,
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/",
        &["DASHSCOPE_API_KEY", "QWEN_CLOUD_API_KEY"],
        &["DASHSCOPE_BASE_URL"],
    ),
    Entry {
        wire: Wire::Anthropic,
        keeps_required: false,
        ..openai_like(
            "minimax",
            AdapterKind::MiniMax,
            "https://api.minimax.io/anthropic/v1/",
            &["MINIMAX_API_KEY"],
            &["MINIMAX_BASE_URL"],
        )
    },
];

/// The provider of that name.
///
/// # Errors
/// There is none; the message lists what there is.
pub(super) fn find(name: &str) -> Result<&'static Entry, ModelError> {
    ENTRIES.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names = || ENTRIES.iter().map(|entry| entry.name).chain(["scripted"]);
        let known = names().collect::<Vec<_>>().join(", ");
        let hint = hint(name, names());
        ModelError::Setup { message: format!("there is no provider `{name}`{hint} (known are {known})") }
    })
}
