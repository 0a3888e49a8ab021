// Files config.json that are refused, and what the refusal says.
#pragma once

namespace sinter::testing {

/// A config.json with one value that is refused.
struct BadConfig {
  const char* field;
  const char* json;   ///< the whole object
  const char* value;  ///< as the message shows it
  const char* rule;
};

inline constexpr const char* kSize = "it must be an integer from 1 to 2147483648";
inline constexpr const char* kLabels = "it must be an integer from 1 to 1048576";
inline constexpr const char* kProbability = "it must lie in [0, 1)";

inline constexpr BadConfig kBadConfigs[] = {
    {"model_type", R"({"model_type": "roberta"})", "\"roberta\"", "it must be \"bert\""},
    {"model_type", R"({"model_type": 3})", "3", "it must be a text"},
    {"vocab_size", R"({"vocab_size": 0})", "0", kSize},
    {"vocab_size", R"({"vocab_size": -1})", "-1", kSize},
    {"vocab_size", R"({"vocab_size": "30522"})", "\"30522\"", "it must be an integer"},
    {"vocab_size", R"({"vocab_size": 30522.5})", "30522.5", "it must be an integer"},
    {"vocab_size", R"({"vocab_size": 1e300})", "1e+300", "it must be an integer"},
    {"vocab_size", R"({"vocab_size": 2147483649})", "2147483649", kSize},
    {"vocab_size", R"({"vocab_size": [1]})", "an array", "it must be an integer"},
    {"vocab_size", R"({"vocab_size": true})", "true", "it must be an integer"},
    {"hidden_size", R"({"hidden_size": 0})", "0", kSize},
    {"hidden_size", R"({"hidden_size": 770})", "770", "it must be a multiple of num_attention_heads"},
    {"hidden_size", R"({"num_attention_heads": 5})", "768", "it must be a multiple of num_attention_heads"},
    {"hidden_size", R"({"hidden_size": 9223372036854775807})", "9223372036854775807", kSize},
    {"num_hidden_layers", R"({"num_hidden_layers": 0})", "0", kSize},
    {"num_hidden_layers", R"({"num_hidden_layers": -12})", "-12", kSize},
    {"num_attention_heads", R"({"num_attention_heads": 0})", "0", kSize},
    {"intermediate_size", R"({"intermediate_size": 0})", "0", kSize},
    {"max_position_embeddings", R"({"max_position_embeddings": 0})", "0", kSize},
    {"type_vocab_size", R"({"type_vocab_size": 0})", "0", kSize},
    {"hidden_act", R"({"hidden_act": "swish"})", "\"swish\"", "it must be gelu, gelu_new, relu or silu"},
    {"hidden_act", R"({"hidden_act": ""})", "\"\"", "it must be gelu, gelu_new, relu or silu"},
    {"hidden_act", R"({"hidden_act": 1})", "1", "it must be a text"},
    {"hidden_dropout_prob", R"({"hidden_dropout_prob": 1})", "1", kProbability},
    {"hidden_dropout_prob", R"({"hidden_dropout_prob": -0.1})", "-0.1", kProbability},
    {"hidden_dropout_prob", R"({"hidden_dropout_prob": "0.1"})", "\"0.1\"", "it must be a number"},
    {"attention_probs_dropout_prob", R"({"attention_probs_dropout_prob": 1.5})", "1.5", kProbability},
    {"classifier_dropout", R"({"classifier_dropout": 2})", "2", kProbability},
    {"classifier_dropout", R"({"classifier_dropout": "none"})", "\"none\"", "it must be a number"},
    {"layer_norm_eps", R"({"layer_norm_eps": 0})", "0", "it must be positive and finite"},
    {"layer_norm_eps", R"({"layer_norm_eps": -1e-12})", "-1e-12", "it must be positive and finite"},
    {"initializer_range", R"({"initializer_range": "normal"})", "\"normal\"", "it must be a number"},
    {"initializer_range", R"({"initializer_range": -0.02})", "-0.02", "it must be finite and not negative"},
    {"pad_token_id", R"({"pad_token_id": -1})", "-1", "it must be an integer from 0 to"},
    {"pad_token_id", R"({"vocab_size": 100, "pad_token_id": 100})", "100", "it must be smaller than vocab_size"},
    {"num_labels", R"({"num_labels": 0})", "0", kLabels},
    {"num_labels", R"({"num_labels": 1048577})", "1048577", kLabels},
    {"num_labels", R"({"num_labels": 3, "id2label": {"0": "a", "1": "b"}})", "3",
     "it must be the number of names in id2label"},
    {"id2label", R"({"id2label": {"0": "a", "2": "b"}})", "", "1 is missing"},
    {"id2label", R"({"id2label": {"a": "b"}})", "", "it must have class numbers as keys, not \"a\""},
    {"id2label", R"({"id2label": {"-1": "b"}})", "", "it must have class numbers as keys, not \"-1\""},
    {"id2label", R"({"id2label": {"01": "b"}})", "", "it must have class numbers as keys, not \"01\""},
    {"id2label", R"({"id2label": {"1.0": "b"}})", "", "it must have class numbers as keys, not \"1.0\""},
    {"id2label", R"({"id2label": {"99999999999999999999": "b"}})", "", "it must have class numbers as keys"},
    {"id2label", R"({"id2label": {"1": "a", "2": "b"}})", "", "0 is missing"},
    {"id2label.1", R"({"id2label": {"0": "a", "1": null}})", "null", "it must be a text"},
    {"label2id.c", R"({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "c": 1}})", "1",
     "it must be the class that id2label gives this name"},
    {"label2id.a", R"({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}})", "1",
     "it must be the class that id2label gives this name"},
    {"label2id.LABEL_0", R"({"id2label": {"0": "a", "1": "b"}, "label2id": {"LABEL_0": 1}})", "1",
     "it must be the class that id2label gives this name"},
    {"label2id.b", R"({"label2id": {"a": 0, "b": 0}})", "0", "it must be a class number that no other name has"},
    {"label2id.a", R"({"label2id": {"a": -1}})", "-1", "it must be a class number that no other name has"},
    {"label2id.a", R"({"label2id": {"a": "x"}})", "\"x\"", "it must be a class number that no other name has"},
    {"label2id", R"({"label2id": {"a": 0, "b": 2}})", "", "it must name every class from 0 on; 1 is missing"},
    {"label2id", R"({"label2id": {"a": 0.5}})", "0.5", "it must be an integer"},
    {"label2id", R"({"label2id": 2})", "2", "it must be an object"},
    {"num_labels", R"({"num_labels": 2, "label2id": {"a": 0}})", "2", "it must be the number of names in id2label"},
    {"id2label", R"({"id2label": {"0": 1}})", "1", "it must be a text"},
    {"id2label", R"({"id2label": ["a"]})", "an array", "it must be an object"},
    {"problem_type", R"({"problem_type": "ranking"})", "\"ranking\"",
     "it must be regression, single_label_classification or"},
    {"position_embedding_type", R"({"position_embedding_type": "relative_key"})", "\"relative_key\"",
     "it must be \"absolute\""},
    {"position_embedding_type", R"({"position_embedding_type": 3})", "3", "it must be a text"},
    {"is_decoder", R"({"is_decoder": true})", "true", "it must be false"},
    {"add_cross_attention", R"({"add_cross_attention": true})", "true", "it must be false"},
    {"pruned_heads", R"({"pruned_heads": {"0": [1]}})", "an object", "it must be empty"},
    {"architectures", R"({"architectures": ["BertModel", "XLNetModel"]})", "", "\"XLNetModel\", it must name a BERT"},
    {"architectures", R"({"architectures": "BertModel"})", "\"BertModel\"", "it must be an array"},
    {"architectures", R"({"architectures": [1]})", "1", "it must be a text"},
    {"num_attention_heads", R"({"num_attention_heads": 9223372036854775808})", "9.223372036854776e+18",
     "it must be an integer"},
    {"max_position_embeddings", R"({"intermediate_size": null, "max_position_embeddings": -5})", "-5", kSize},
    {"type_vocab_size", R"({"type_vocab_size": "\u001b[31m2"})", "\"\\u001b[31m2\"", "it must be an integer"},
    {"attention_probs_dropout_prob", R"({"attention_probs_dropout_prob": []})", "an array", "it must be a number"},
    {"layer_norm_eps", R"({"layer_norm_eps": "1e-12"})", "\"1e-12\"", "it must be a number"},
    {"layer_norm_eps", R"({"layer_norm_eps": 1e-400})", "0", "it must be positive and finite"},
    {"is_decoder", R"({"is_decoder": "no"})", "\"no\"", "it must be true or false"},
};

/// Not even JSON: what Python's writer would let through, and what only looks like a number.
struct BadConfigText {
  const char* json;
  const char* says;
};

inline constexpr BadConfigText kBadConfigTexts[] = {
    {R"({"layer_norm_eps": NaN})", "is not valid JSON"},
    {R"({"layer_norm_eps": Infinity})", "is not valid JSON"},
    {R"({"layer_norm_eps": -Infinity})", "is not valid JSON"},
    {R"({"layer_norm_eps": 1e400})", "number overflow parsing '1e400'"},
    {R"({"hidden_size": 0x300})", "is not valid JSON"},
    {R"({"hidden_size": 768, "hidden_size": 384})", "hidden_size is given twice"},
    {R"({"hidden_size": 768,})", "is not valid JSON"},
    {R"({"hidden_size": 768} {})", "is not valid JSON"},
    {R"({"hidden_size": 768)", "is not valid JSON"},
    {"{\"hidden_act\": \"\xff\"}", "is not valid JSON"},
    {"", "is not valid JSON"},
};

}  // namespace sinter::testing
