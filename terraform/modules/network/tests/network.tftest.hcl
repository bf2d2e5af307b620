# Ranges, ways out, and the refusals.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
}

variables {
  name  = "vr"
  zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
}

run "subnets" {
  assert {
    condition = { for zone, subnet in aws_subnet.private : zone => subnet.cidr_block } == {
      eu-central-1a = "10.0.0.0/20", eu-central-1b = "10.0.16.0/20", eu-central-1c = "10.0.32.0/20"
    }
    error_message = "the private subnets are elsewhere: moving one replaces every node in it"
  }

  assert {
    condition = { for zone, subnet in aws_subnet.public : zone => subnet.cidr_block } == {
      eu-central-1a = "10.0.128.0/24", eu-central-1b = "10.0.129.0/24", eu-central-1c = "10.0.130.0/24"
    }
    error_message = "the public subnets are elsewhere, or overlap the private ones"
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : !subnet.map_public_ip_on_launch])
    error_message = "what starts in a public subnet gets a public address unasked"
  }

  assert {
    condition     = output.topology.zones == var.zones
    error_message = "the output does not name the zones"
  }
}

run "a_zone_does_not_need_another" {
  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(distinct([for route in aws_route.private : route.nat_gateway_id])) == 3
    error_message = "two zones leave by the same gateway"
  }
}

run "one_gateway_when_asked_for" {
  variables {
    single_nat_gateway = true
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.private) == 3
    error_message = "one gateway was asked for, and a way out of each zone"
  }
}

run "checkpoints_pass_no_gateway" {
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-central-1.s3"
    error_message = "there is no gateway endpoint for S3"
  }

  assert {
    condition     = toset(aws_vpc_endpoint.s3.route_table_ids) == toset([for table in aws_route_table.private : table.id])
    error_message = "a zone reaches S3 through its NAT gateway, which is paid by the byte"
  }
}

run "closed_by_default" {
  assert {
    condition     = length(aws_default_security_group.this.ingress) == 0 && length(aws_default_security_group.this.egress) == 0
    error_message = "the default security group lets something through"
  }
}

run "refuses_two_zones" {
  command = plan
  variables { zones = ["eu-central-1a", "eu-central-1b"] }
  expect_failures = [var.zones]
}

run "refuses_a_zone_twice" {
  command = plan
  variables { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1b"] }
  expect_failures = [var.zones]
}

run "refuses_a_region" {
  command = plan
  variables { zones = ["eu-central-1", "eu-central-2", "eu-central-3"] }
  expect_failures = [var.zones]
}

run "refuses_a_small_range" {
  command = plan
  variables { cidr = "10.0.0.0/24" }
  expect_failures = [var.cidr]
}

run "refuses_a_range_by_another_address" {
  command = plan
  variables { cidr = "10.0.0.1/16" }
  expect_failures = [var.cidr]
}

run "refuses_an_empty_name" {
  command = plan
  variables { name = "" }
  expect_failures = [var.name]
}
