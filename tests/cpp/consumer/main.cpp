// A program outside the project: one query that is exactly half of atom 1 must be explained by it.
#include <cstdio>

#include "headscan/comp.hpp"

int main() {
  const float atoms[] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const double x[] = {0, 0.5, 0};
  std::int64_t index = -1;
  double coefficient = 0;
  std::uint8_t certified = 0;
  headscan::CompOptions options;
  options.k = 1;
  headscan::comp<double>({x, 1, 3, 3}, {atoms, 3, 3, 3}, {{&index, 1, 1, 1}, {&coefficient, 1, 1, 1}, &certified},
                         options);
  std::printf("%lld %g %d\n", static_cast<long long>(index), coefficient, certified);
  return 0;
}
