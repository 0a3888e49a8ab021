// The progress bar's line at every width.
#include "train/progress.h"

#include <gtest/gtest.h>

namespace sinter::train {
namespace {

TEST(ProgressLine, FillsTheWidthThatIsThere) {
  const ProgressView half{.title = "train", .done = 5, .total = 10, .elapsed = 62, .rate = 2.5};
  EXPECT_EQ(progress_line(half, 200), "train  50% [" + std::string(15, '#') + std::string(15, '.') +
                                          "] 5/10  01:02<00:02  2.5 steps/s");
  EXPECT_EQ(progress_line(half, 57), "train  50% [######.......] 5/10  01:02<00:02  2.5 steps/s");
  EXPECT_EQ(progress_line(half, 49), "train  50% [##...] 5/10  01:02<00:02  2.5 steps/s");
  EXPECT_EQ(progress_line(half, 48), "train  50% [########.........] 5/10  01:02<00:02");
  EXPECT_EQ(progress_line(half, 22), "train  50% 5/10");
  EXPECT_EQ(progress_line(half, 23), "train  50% [##...] 5/10");
  EXPECT_EQ(progress_line(half, 16), "train  50% 5/10");
  EXPECT_EQ(progress_line(half, 4), "trai");
  EXPECT_EQ(progress_line(half, 0), "");
  for (int columns = 0; columns < 120; ++columns)
    EXPECT_LE(progress_line({.title = "train", .done = 12629, .total = 12630, .elapsed = 1e6, .rate = 0.01}, columns)
                  .size(),
              static_cast<std::size_t>(columns));
}

TEST(ProgressLine, TheFirstStepHasNoRateAndTheLastButOneIsNotAll) {
  EXPECT_EQ(progress_line({.title = "train", .done = 1, .total = 3000}, 60),
            "train   0% [..............................] 1/3000  00:00");
  EXPECT_EQ(progress_line({.title = "train", .done = 2999, .total = 3000, .elapsed = 10, .rate = 1}, 22),
            "train  99% 2999/3000");
}

}  // namespace
}  // namespace sinter::train
