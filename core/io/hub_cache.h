// Where a pretrained model or tokenizer lies on this machine: a folder, or a name in Hugging Face's cache.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>

namespace sinter {

/// The folder in which HF's tools keep what they downloaded: $HF_HUB_CACHE, else $HF_HOME/hub, else
/// $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub. A leading "~" is the home folder. An empty variable
/// counts as not set; an empty path comes back when not even HOME is set.
std::filesystem::path hub_cache_folder();

/// The folder that holds at least one of `needed_files`, for a `from_pretrained` that is given `name_or_path`:
///
///   - a folder, as it stands. A folder wins over a cached name, as in HF;
///   - else a name, "org/name" or "name", in `cache`: models--org--name/snapshots/<commit>, the commit of refs/main or,
///     where that is not there, the newest snapshot with a needed file. A name without an org is looked up as it is and
///     then under google-bert, to which HF moved the first BERT models.
///
/// Nothing is downloaded. Error not_found, one sentence, when there is no such thing: it names what is missing and
/// where was looked, and gives the command that fetches it. Error io when a folder may not be read; Error usage for an
/// empty name.
std::filesystem::path resolve_pretrained(const std::string& name_or_path,
                                         std::initializer_list<std::string_view> needed_files,
                                         const std::filesystem::path& cache = hub_cache_folder());
/// The same for one file: resolve_pretrained("bert-base-uncased", "config.json").
std::filesystem::path resolve_pretrained(const std::string& name_or_path, std::string_view needed_file,
                                         const std::filesystem::path& cache = hub_cache_folder());

}  // namespace sinter
