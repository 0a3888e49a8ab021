// A library that has nothing to do with sinter.
extern "C" int answer_of_no_backend();
extern "C" int answer_of_no_backend() { return 42; }
