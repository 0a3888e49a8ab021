// BertTokenizer's calls on whole batches: truncation, the template, padding, threads.
#include <algorithm>
#include <atomic>
#include <exception>
#include <utility>

#include "core/error.h"
#include "core/runtime/runtime.h"
#include "data/tokenizer.h"
#include "data/tokenizer_tables.h"

namespace sinter::data {

namespace {

constexpr std::size_t kRowsOfTask = 64;   // some 50 us of work: enough to pay for handing a task out

/// TokenizeOptions after the tokenizer's defaults, checked.
struct Plan {
  std::size_t special_tokens = 0;   // that each row gets
  std::size_t room = 0;             // for tokens beside them, where truncation is on
  Truncation::Strategy truncation = Truncation::do_not_truncate;
  Side::Name truncation_side = Side::right;
  Padding::Strategy padding = Padding::do_not_pad;
  Side::Name padding_side = Side::right;
  std::size_t padded_length = 0;    // for padding "max_length"
  std::size_t multiple = 1;
};

Plan make_plan(const TokenizeOptions& options, const BertTokenizerOptions& defaults, bool pairs) {
  Plan plan;
  const std::size_t template_tokens = pairs ? 3 : 2;
  plan.special_tokens = options.add_special_tokens ? template_tokens : 0;
  plan.padding = options.padding;
  plan.truncation = options.truncation.value_or(options.max_length.has_value() && plan.padding == Padding::do_not_pad);
  plan.truncation_side = options.truncation_side.value_or(defaults.truncation_side);
  plan.padding_side = options.padding_side.value_or(defaults.padding_side);
  const std::int64_t multiple = options.pad_to_multiple_of.value_or(1);
  if (multiple < 1) fail(ErrorCode::usage, "pad_to_multiple_of is ", multiple, "; it must be at least 1.");
  plan.multiple = static_cast<std::size_t>(multiple);
  if (options.num_threads < 0)
    fail(ErrorCode::usage, "num_threads is ", options.num_threads, "; it must be at least 1, or 0 for all.");

  const std::optional<std::int64_t> max_length = options.max_length ? options.max_length : defaults.model_max_length;
  if (!max_length) {
    plan.truncation = Truncation::do_not_truncate;
    if (plan.padding == Padding::max_length) plan.padding = Padding::do_not_pad;
    return plan;
  }
  if (*max_length < 0) fail(ErrorCode::usage, "max_length is ", *max_length, "; it must not be negative.");
  plan.padded_length = static_cast<std::size_t>(*max_length);
  if (plan.truncation == Truncation::do_not_truncate) return plan;
  if (plan.padding != Padding::do_not_pad && *max_length % multiple != 0)
    fail(ErrorCode::usage, "max_length is ", *max_length, ", no multiple of pad_to_multiple_of ", multiple,
         "; with truncation and padding together it must be one.");
  if (plan.padded_length < plan.special_tokens)
    fail(ErrorCode::usage, "max_length is ", *max_length, "; truncation needs at least ", plan.special_tokens,
         ", the number of special tokens.");
  plan.room = plan.padded_length - plan.special_tokens;
  return plan;
}

/// Tokens of the two texts of a row; `second` is 0 without a pair.
struct Lengths {
  std::size_t first = 0;
  std::size_t second = 0;
  std::size_t total() const { return first + second; }
};

// The longer text loses until both are equally long, then both lose alike and the longer one keeps the odd token (the
// second text, if they are equally long).
Lengths longest_first(Lengths has, std::size_t room) {
  const std::size_t shorter = std::min({has.first, has.second, room / 2});
  const std::size_t longer = room - shorter;
  return has.first <= has.second ? Lengths{shorter, longer} : Lengths{longer, shorter};
}

// How many tokens stay. `row` is for messages.
Lengths truncated(Lengths has, const Plan& plan, bool pairs, std::size_t row) {
  if (plan.truncation == Truncation::do_not_truncate || has.total() <= plan.room) return has;
  if (plan.room == 0) return {};
  if (plan.truncation == Truncation::longest_first)
    return pairs ? longest_first(has, plan.room) : Lengths{plan.room, 0};
  const bool first = plan.truncation == Truncation::only_first;
  if (!first && !pairs)
    fail(ErrorCode::usage, "truncation is \"only_second\", but row ", row, " has no second text to shorten.");
  std::size_t& target = first ? has.first : has.second;
  const std::size_t excess = has.total() - plan.room;
  if (target <= excess)
    fail(ErrorCode::usage, "Row ", row, " has ", excess, " tokens too many for max_length ", plan.padded_length,
         ", and truncation \"", first ? "only_first" : "only_second", "\" may only shorten a text of ", target,
         "; use \"longest_first\" or a greater max_length.");
  target -= excess;
  return has;
}

void keep(std::vector<Token>& tokens, std::size_t count, Side::Name cut) {
  if (cut == Side::right)
    tokens.resize(count);
  else
    tokens.erase(tokens.begin(), tokens.end() - static_cast<std::ptrdiff_t>(count));
}

/// Tokens of consecutive rows, truncated: of each row those of the text, then those of its pair.
struct TokenizedRows {
  std::vector<Token> tokens;
  std::vector<Lengths> lengths;
};

/// Where the parts of one row go. Null for a column that was not asked for.
struct RowWriter {
  std::int32_t *ids, *types, *attention, *special, *offsets;

  void put(Token token, bool added, std::int32_t type) {
    *ids++ = token.id;
    if (types) *types++ = type;
    if (attention) *attention++ = 1;
    if (special) *special++ = added ? 1 : 0;
    if (!offsets) return;
    *offsets++ = static_cast<std::int32_t>(token.begin);
    *offsets++ = static_cast<std::int32_t>(token.end);
  }
  void skip(std::size_t count) {
    for (std::int32_t** column : {&ids, &types, &attention, &special})
      if (*column) *column += count;
    if (offsets) offsets += 2 * count;
  }
};

/// Calls work(task) for each task on at most `threads` threads. Of several failures the first task's is thrown.
template <class Work>
void run_tasks(std::size_t tasks, int threads, const Work& work) {
  std::vector<std::exception_ptr> failures(tasks);
  std::atomic<std::size_t> next{0};
  const auto take_tasks = [&](std::int64_t) {
    for (std::size_t task = next++; task < tasks; task = next++) {
      try {
        work(task);
      } catch (...) {
        failures[task] = std::current_exception();
      }
    }
  };
  if (threads == 1 || tasks < 2) {
    take_tasks(0);
  } else {
    const kernels::Stream stream = Runtime::instance().stream(Device::cpu());
    kernels::parallel_tasks(stream, threads == 0 ? kernels::thread_count(stream) : threads, take_tasks);
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

/// Makes the columns of rows that have been tokenized.
class BatchBuilder {
 public:
  BatchBuilder(const std::vector<TokenizedRows>& chunks, const Plan& plan, const TokenizeOptions& options,
               const BertTokenizer& tokenizer, bool pairs)
      : chunks_(chunks), plan_(plan), tokenizer_(tokenizer), pairs_(pairs) {
    std::size_t longest = plan.padding == Padding::max_length ? plan.padded_length : 0;
    if (plan.padding == Padding::longest)
      for (const TokenizedRows& chunk : chunks)
        for (const Lengths& lengths : chunk.lengths) longest = std::max(longest, natural_length(lengths));
    padded_length_ = (longest + plan.multiple - 1) / plan.multiple * plan.multiple;
    std::vector<std::int64_t> offsets = {0};
    for (const TokenizedRows& chunk : chunks)
      for (const Lengths& lengths : chunk.lengths)
        offsets.push_back(offsets.back() + static_cast<std::int64_t>(row_length(lengths)));
    allocate(offsets, options);
  }

  /// The rows of one chunk; chunks may be written at once.
  void write(std::size_t chunk) {
    const Token* tokens = chunks_[chunk].tokens.data();
    std::size_t row = chunk * kRowsOfTask;
    for (const Lengths& lengths : chunks_[chunk].lengths) {
      RowWriter writer = writer_of(row++);
      const std::size_t pads = row_length(lengths) - natural_length(lengths);
      if (plan_.padding_side == Side::left) writer.skip(pads);
      const bool specials = plan_.special_tokens > 0;
      if (specials) writer.put({tokenizer_.cls_token_id()}, true, 0);
      for (std::size_t i = 0; i < lengths.first; ++i) writer.put(*tokens++, false, 0);
      if (specials) writer.put({tokenizer_.sep_token_id()}, true, 0);
      for (std::size_t i = 0; i < lengths.second; ++i) writer.put(*tokens++, false, 1);
      if (specials && pairs_) writer.put({tokenizer_.sep_token_id()}, true, 1);
    }
  }

  BatchEncoding take() { return std::move(batch_); }

 private:
  std::size_t natural_length(const Lengths& lengths) const { return lengths.total() + plan_.special_tokens; }
  std::size_t row_length(const Lengths& lengths) const { return std::max(natural_length(lengths), padded_length_); }

  // Every column is filled with what padding has in it.
  void allocate(const std::vector<std::int64_t>& offsets, const TokenizeOptions& options) {
    const auto column = [&](std::int32_t pad, std::int64_t width) {
      Lists lists;
      lists.values.assign(static_cast<std::size_t>(offsets.back() * width), pad);
      lists.offsets = offsets;
      for (std::int64_t& offset : lists.offsets) offset *= width;
      return lists;
    };
    batch_.input_ids = column(tokenizer_.pad_token_id(), 1);
    if (options.return_token_type_ids) batch_.token_type_ids = column(0, 1);
    if (options.return_attention_mask) batch_.attention_mask = column(0, 1);
    if (options.return_special_tokens_mask) batch_.special_tokens_mask = column(1, 1);
    if (options.return_offsets_mapping) batch_.offset_mapping = column(0, 2);
    if (!options.return_length) return;
    batch_.length.emplace();
    for (std::size_t row = 0; row + 1 < offsets.size(); ++row)
      batch_.length->push_back(offsets[row + 1] - offsets[row]);
  }

  RowWriter writer_of(std::size_t row) {
    const auto at = [&](std::optional<Lists>& lists) {
      return lists ? lists->values.data() + lists->offsets[row] : nullptr;
    };
    return {batch_.input_ids.values.data() + batch_.input_ids.offsets[row], at(batch_.token_type_ids),
            at(batch_.attention_mask), at(batch_.special_tokens_mask), at(batch_.offset_mapping)};
  }

  const std::vector<TokenizedRows>& chunks_;
  const Plan& plan_;
  const BertTokenizer& tokenizer_;
  bool pairs_;
  std::size_t padded_length_ = 0;   // 0 without padding
  BatchEncoding batch_;
};

std::vector<std::string_view> views(std::span<const std::string> texts) { return {texts.begin(), texts.end()}; }

Encoding only_row(BatchEncoding batch) {
  Encoding encoding{.ids = std::move(batch.input_ids.values)};
  if (batch.token_type_ids) encoding.token_type_ids = std::move(batch.token_type_ids->values);
  if (batch.attention_mask) encoding.attention_mask = std::move(batch.attention_mask->values);
  return encoding;
}

}  // namespace

BatchEncoding BertTokenizer::encode_rows(std::span<const std::string_view> texts,
                                         std::optional<std::span<const std::string_view>> text_pairs,
                                         const TokenizeOptions& options) const {
  const bool pairs = text_pairs.has_value();
  const Plan plan = make_plan(options, this->options(), pairs);
  std::vector<TokenizedRows> chunks((texts.size() + kRowsOfTask - 1) / kRowsOfTask);
  run_tasks(chunks.size(), options.num_threads, [&](std::size_t chunk) {
    TokenizedRows& rows = chunks[chunk];
    std::vector<Token> first, second;
    for (std::size_t row = chunk * kRowsOfTask; row < std::min((chunk + 1) * kRowsOfTask, texts.size()); ++row) {
      first.clear();
      second.clear();
      tables_->append_tokens(texts[row], first);
      if (pairs) tables_->append_tokens((*text_pairs)[row], second);
      const Lengths lengths = truncated({first.size(), second.size()}, plan, pairs, row);
      keep(first, lengths.first, plan.truncation_side);
      keep(second, lengths.second, plan.truncation_side);
      rows.tokens.insert(rows.tokens.end(), first.begin(), first.end());
      rows.tokens.insert(rows.tokens.end(), second.begin(), second.end());
      rows.lengths.push_back(lengths);
    }
  });
  BatchBuilder builder(chunks, plan, options, *this, pairs);
  run_tasks(chunks.size(), options.num_threads, [&](std::size_t chunk) { builder.write(chunk); });
  return builder.take();
}

BatchEncoding BertTokenizer::operator()(std::span<const std::string> texts, const TokenizeOptions& options) const {
  return encode_rows(views(texts), std::nullopt, options);
}

BatchEncoding BertTokenizer::operator()(std::span<const std::string> texts, std::span<const std::string> text_pairs,
                                        const TokenizeOptions& options) const {
  if (texts.size() != text_pairs.size())
    fail(ErrorCode::usage, "There are ", texts.size(), " texts and ", text_pairs.size(),
         " text_pairs; each text needs one.");
  const std::vector<std::string_view> seconds = views(text_pairs);
  return encode_rows(views(texts), seconds, options);
}

Encoding BertTokenizer::encode(std::string_view text, const TokenizeOptions& options) const {
  return only_row(encode_rows({&text, 1}, std::nullopt, options));
}

Encoding BertTokenizer::encode(std::string_view text, std::string_view text_pair,
                               const TokenizeOptions& options) const {
  return only_row(encode_rows({&text, 1}, std::span<const std::string_view>(&text_pair, 1), options));
}

}  // namespace sinter::data
