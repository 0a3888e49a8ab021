// Learning-rate factors, by table.
#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "optim/plateau.h"
#include "tests/core/expect_error.h"

namespace sinter::optim {
namespace {

struct Row {
  const char* name;
  std::int64_t warmup, total, completed;
  double factor;
};

constexpr Row kRows[] = {
    {"linear", 10, 100, 0, 0},
    {"linear", 10, 100, 1, 0.1},
    {"linear", 10, 100, 10, 1},
    {"linear", 10, 100, 11, 89.0 / 90},
    {"linear", 10, 100, 55, 0.5},
    {"linear", 10, 100, 99, 1.0 / 90},
    {"linear", 10, 100, 100, 0},
    {"linear", 10, 100, 150, 0},
    {"linear", 0, 4, 0, 1},
    {"linear", 0, 4, 3, 0.25},
    {"linear", 0, 1, 0, 1},
    {"linear", 1, 1, 0, 0},
    {"linear", 1, 1, 1, 0},
    {"linear", 5, 5, 4, 0.8},
    {"linear", 8, 5, 6, 0.75},  // more warm-up than updates: the rise goes on
    {"linear", 8, 5, 9, 0},
    {"linear", 0, 0, 0, 0},
    {"constant", 10, 100, 0, 1},
    {"constant", 10, 100, 1000, 1},
    {"constant_with_warmup", 4, 100, 0, 0},
    {"constant_with_warmup", 4, 100, 3, 0.75},
    {"constant_with_warmup", 4, 100, 4, 1},
    {"constant_with_warmup", 4, 100, 1000, 1},
    {"constant_with_warmup", 0, 100, 0, 1},
    {"cosine", 10, 110, 0, 0},
    {"cosine", 10, 110, 5, 0.5},
    {"cosine", 10, 110, 10, 1},
    {"cosine", 10, 110, 35, 0.85355339059327378},  // (1 + cos(pi / 4)) / 2
    {"cosine", 10, 110, 60, 0.5},
    {"cosine", 10, 110, 110, 0},
};

TEST(Schedule, Table) {
  for (const Row& row : kRows)
    EXPECT_NEAR(get_scheduler(row.name, row.warmup, row.total).factor(row.completed), row.factor, 1e-15)
        << row.name << " warmup " << row.warmup << " total " << row.total << " completed " << row.completed;
}

TEST(Schedule, HuggingFaceCheckValues) {
  const Schedule schedule = get_scheduler("linear", 10, 100);
  const std::pair<std::int64_t, double> expected[] = {{1, 0},           {2, 2e-6},  {11, 2e-5},
                                                      {12, 1.97778e-5}, {56, 1e-5}, {100, 2.2222e-7}};
  for (const auto& [update, lr] : expected)
    EXPECT_NEAR(2e-5 * schedule.factor(update - 1), lr, 1e-10) << "update " << update;
}

struct Curve {
  const char* name;
  std::int64_t warmup, total;
  const char* kwargs;
  std::vector<std::pair<std::int64_t, double>> factors;  // updates done, factor
};

// What transformers 5.23 with torch 2.13 gives, lr 2e-5, for each row:
//   optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-5)
//   scheduler = transformers.get_scheduler(name, optimizer, warmup, total, json.loads(kwargs))
//   scheduler.get_last_lr()[0] / 2e-5 after i scheduler steps
const std::vector<Curve>& curves() {
  static const std::vector<Curve> all = {
      {"cosine",
       10,
       100,
       R"({})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.9996954135095479},
        {35, 0.8213938048432696},
        {60, 0.41317591116653485},
        {99, 0.00030458649045211894},
        {100, 0.0},
        {130, 0.24999999999999978}}},
      {"cosine",
       10,
       100,
       R"({"num_cycles": 1.5})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.9972609476841368},
        {35, 0.06698729810778065},
        {60, 0.75},
        {99, 0.0027390523158632996},
        {100, 0.0},
        {130, 1.0}}},
      {"cosine_with_restarts",
       10,
       100,
       R"({})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.9996954135095479},
        {35, 0.8213938048432696},
        {60, 0.41317591116653485},
        {99, 0.00030458649045211894},
        {100, 0.0},
        {130, 0.0}}},
      {"cosine_with_restarts",
       10,
       100,
       R"({"num_cycles": 3})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.9972609476841368},
        {35, 0.06698729810778065},
        {60, 0.24999999999999986},
        {99, 0.0027390523158632996},
        {100, 0.0},
        {130, 0.0}}},
      {"polynomial",
       10,
       100,
       R"({})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.9889444444444445},
        {35, 0.7236111111111112},
        {60, 0.44722222222222224},
        {99, 0.016055555555555517},
        {100, 0.004999999999999999},
        {130, 0.004999999999999999}}},
      {"polynomial",
       10,
       100,
       R"({"power": 2.0, "lr_end": 1e-06})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.9790061728395063},
        {35, 0.5455246913580247},
        {60, 0.2376543209876543},
        {99, 0.05011728395061728},
        {100, 0.049999999999999996},
        {130, 0.049999999999999996}}},
      {"inverse_sqrt",
       10,
       100,
       R"({})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.9534625892455922},
        {35, 0.5345224838248488},
        {60, 0.408248290463863},
        {99, 0.3178208630818641},
        {100, 0.31622776601683794},
        {130, 0.2773500981126146}}},
      {"inverse_sqrt", 0, 100, R"({})", {{0, 1.0}, {1, 0.9999500037496877}, {100, 0.9950371902099893}}},
      {"inverse_sqrt",
       10,
       100,
       R"({"timescale": 50})",
       {{0, 0.0}, {5, 0.5}, {10, 1.0}, {11, 0.9901475429766743}, {100, 0.5976143046671968}}},
      {"cosine_with_min_lr",
       10,
       100,
       R"({"min_lr": 2e-06})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.9997258721585931},
        {35, 0.8392544243589428},
        {60, 0.4718583200498814},
        {99, 0.1002741278414069},
        {100, 0.09999999999999999},
        {130, 0.3249999999999998}}},
      {"cosine_with_min_lr",
       10,
       100,
       R"({"min_lr_rate": 0.25})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 0.999771560132161},
        {35, 0.8660453536324522},
        {60, 0.5598819333749011},
        {99, 0.2502284398678391},
        {100, 0.25},
        {130, 0.43749999999999983}}},
      {"cosine_warmup_with_min_lr",
       10,
       100,
       R"({"min_lr_rate": 0.25})",
       {{0, 0.1},
        {1, 0.2},
        {5, 0.6},
        {10, 0.999771560132161},
        {11, 0.999086518847434},
        {35, 0.8558730532471217},
        {60, 0.5470331159433404},
        {99, 0.25},
        {100, 0.2502284398678391},
        {130, 0.44894816395529097}}},
      {"cosine_warmup_with_min_lr",
       10,
       100,
       R"({"min_lr_rate": 0.25, "warmup_lr_rate": 0.1})",
       {{0, 0.1},
        {1, 0.2},
        {5, 0.6},
        {10, 0.999771560132161},
        {11, 0.999086518847434},
        {35, 0.8558730532471217},
        {60, 0.5470331159433404},
        {99, 0.25},
        {100, 0.2502284398678391},
        {130, 0.44894816395529097}}},
      {"warmup_stable_decay",
       10,
       100,
       R"({"num_decay_steps": 30})",
       {{0, 0.0},
        {1, 0.1},
        {5, 0.5},
        {10, 1.0},
        {11, 1.0},
        {35, 1.0},
        {60, 1.0},
        {75, 0.9330127018922195},
        {90, 0.2500000000000001},
        {99, 0.002739052315863355},
        {100, 0.0},
        {130, 0.0}}},
      {"warmup_stable_decay",
       10,
       100,
       R"({"num_decay_steps": 30, "warmup_type": "cosine", "decay_type": "1-sqrt", "min_lr_ratio": 0.1})",
       {{0, 0.1},
        {1, 0.12202456766718091},
        {5, 0.5499999999999999},
        {10, 1.0},
        {11, 1.0},
        {35, 1.0},
        {60, 1.0},
        {75, 0.6325765385825233},
        {90, 0.26515307716504655},
        {99, 0.11512712777484249},
        {100, 0.1},
        {130, 0.1}}},
      {"warmup_stable_decay",
       10,
       100,
       R"({"num_decay_steps": 30, "num_stable_steps": 20, "warmup_type": "1-sqrt", "decay_type": "cosine"})",
       {{0, 0.0},
        {5, 0.2928932188134524},
        {9, 0.6837722339831621},
        {10, 1.0},
        {29, 1.0},
        {30, 1.0},
        {45, 0.5},
        {59, 0.002739052315863355},
        {60, 0.0},
        {100, 0.0}}},
  };
  return all;
}

TEST(Schedule, HuggingFaceCurves) {
  for (const Curve& row : curves()) {
    const Schedule schedule = get_scheduler(row.name, row.warmup, row.total, Json::parse(row.kwargs, "kwargs"), 2e-5);
    for (const auto& [completed, factor] : row.factors)  // a few roundings below 1
      EXPECT_NEAR(schedule.factor(completed), factor, 1e-15) << row.name << row.kwargs << " after " << completed;
  }
}

TEST(Schedule, SettingsAreChecked) {
  const struct {
    const char *name, *kwargs, *says;
  } rows[] = {
      {"linear", R"({"num_cycles": 2})", "the schedule linear has no setting num_cycles; it has none"},
      {"constant", R"({"lr_end": 0})", "the schedule constant has no setting lr_end"},
      {"cosine", R"({"cycles": 2})", "the schedule cosine has no setting cycles; it has num_cycles"},
      {"cosine", R"({"num_cycles": -1})", "num_cycles is -1, it must not be negative"},
      {"polynomial", R"({"lr_end": 1})", "lr_end is 1, it must lie in [0, learning_rate]"},
      {"polynomial", R"({"power": -2})", "power is -2, it must not be negative"},
      {"inverse_sqrt", R"({"timescale": 0})", "timescale is 0, it must be positive"},
      {"cosine_with_min_lr", "{}", "exactly one of min_lr and min_lr_rate must be given"},
      {"cosine_with_min_lr", R"({"min_lr": 0, "min_lr_rate": 0})",
       "exactly one of min_lr and min_lr_rate must be given"},
      {"cosine_with_min_lr", R"({"min_lr_rate": 2})", "min_lr_rate is 2, it must lie in [0, 1]"},
      {"warmup_stable_decay", "{}", "needs num_decay_steps"},
      {"warmup_stable_decay", R"({"num_decay_steps": 1.5})", "num_decay_steps is 1.5, it must be a number of updates"},
      {"warmup_stable_decay", R"({"num_decay_steps": 1, "decay_type": "steep"})",
       "decay_type is steep, it must be linear, cosine or 1-sqrt"},
  };
  for (const auto& row : rows)
    testing::expect_usage_error(
        [&] { get_scheduler(row.name, 10, 100, Json::parse(row.kwargs, "lr_scheduler_kwargs"), 2e-5); }, row.says);
}

TEST(Schedule, UnknownNamesAreRefused) {
  for (const char* name : {"", "Linear", "reduce_lr_on_plateau"})
    testing::expect_usage_error([&] { get_scheduler(name, 0, 1); },
                                std::string("lr_scheduler_type is \"") + name + "\", it must be linear, cosine, ");
}

// Learning rates of torch 2.13's ReduceLROnPlateau on an SGD with lr 1, after each step(metric) with these settings.
TEST(ReduceLrOnPlateau, TorchRates) {
  const struct {
    const char* kwargs;
    std::vector<std::pair<double, double>> steps;  // metric, rate behind it
  } rows[] = {
      {R"({"patience": 1, "factor": 0.5})",
       {{1, 1}, {0.9, 1}, {0.9, 1}, {0.9, 0.5}, {0.9, 0.5}, {0.8, 0.5}, {0.8, 0.5}, {0.8, 0.25}}},
      {"{}",
       {{1, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 1},
        {0.9, 0.1}}},
      {R"({"mode": "max", "patience": 0, "cooldown": 2, "factor": 0.1, "min_lr": 0.005})",
       {{0.5, 1},
        {0.6, 1},
        {0.6, 0.1},
        {0.6, 0.1},
        {0.6, 0.1},
        {0.6, 0.010000000000000002},
        {0.6, 0.010000000000000002}}},
      {R"({"mode": "max", "patience": 0, "threshold": 0.1, "threshold_mode": "abs", "factor": 0.5})",
       {{0.5, 1}, {0.55, 0.5}, {0.65, 0.5}, {0.7, 0.25}, {0.75, 0.125}}},
      {R"({"mode": "max", "patience": 0, "threshold": 0.1, "factor": 0.5})",
       {{0.5, 1}, {0.55, 0.5}, {0.65, 0.5}, {0.7, 0.25}, {0.75, 0.25}}},
  };
  for (const auto& row : rows) {
    const Json kwargs = Json::parse(row.kwargs, "kwargs");
    ReduceLrOnPlateau plateau(1, kwargs, false);
    for (const auto& [metric, lr] : row.steps) {
      ReduceLrOnPlateau resumed(1, kwargs, false);  // a checkpoint before every step changes nothing
      resumed.load_state(Json::parse(plateau.state().dump(), "state"));
      plateau = resumed;
      plateau.step(metric);
      EXPECT_EQ(plateau.lr(), lr) << row.kwargs;
    }
  }
}

TEST(ReduceLrOnPlateau, FollowsTheDirectionOfTheMetric) {
  ReduceLrOnPlateau plateau(1, Json::parse(R"({"patience": 0})", "kwargs"), true);
  for (const double accuracy : {0.5, 0.6, 0.7}) plateau.step(accuracy);
  EXPECT_EQ(plateau.lr(), 1);
  plateau.step(0.7);
  EXPECT_EQ(plateau.lr(), 0.1);
}

TEST(ReduceLrOnPlateau, SettingsAreChecked) {
  for (const auto& [kwargs, says] : {std::pair{R"({"factor": 1})", "factor is 1, it must be below 1"},
                                     std::pair{R"({"mode": "up"})", "mode is up, it must be min or max"},
                                     std::pair{R"({"patience": -1})", "patience is -1, it must not be negative"},
                                     std::pair{R"({"num_cycles": 1})", "has no setting num_cycles"}})
    testing::expect_usage_error([&] { ReduceLrOnPlateau(1, Json::parse(kwargs, "kwargs"), false); }, says);
}

}  // namespace
}  // namespace sinter::optim
