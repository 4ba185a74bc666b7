target "front" {
  labels = {ci = "yes"}
}
