builder build
