// Learning-rate factors, by table.
#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/expect_error.h"

namespace sinter::optim {
namespace {

struct Row {
  const char* name;
  std::int64_t warmup, total, completed;
  double factor;
};

constexpr Row rows[] = {
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
  for (const Row& row : rows)
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

TEST(Schedule, UnknownNamesAreRefused) {
  for (const char* name : {"", "Linear", "polynomial", "cosine_with_restarts"})
    testing::expect_usage_error([&] { get_scheduler(name, 0, 1); },
                                std::string("lr_scheduler_type is \"") + name +
                                    "\", it must be linear, cosine, constant or constant_with_warmup");
}

}  // namespace
}  // namespace sinter::optim
