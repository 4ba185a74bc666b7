group "default" { targets = ["front"] }
target "front" {
  dockerfile = "docker/web.Dockerfile"
  tags = ["registry.example/front"]
}
